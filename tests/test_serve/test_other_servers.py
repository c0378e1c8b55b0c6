# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The recipe for Triton, called by a stand-in of its utilities."""
import importlib.util
import json
import queue
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmdynperceiver.deploy import Runner
from .clients import encoded

TRITON = Path(__file__).parents[2] / 'projects/other_servers/triton'


class Tensor:
    """A named array."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


class Request:
    """An image, and what sends its answer."""

    def __init__(self, content):
        self.tensor = Tensor('IMAGE', np.array([content], object))
        self.answers = queue.Queue()

    def get_response_sender(self):
        return SimpleNamespace(
            send=lambda response, flags: self.answers.put((response, flags)))


def test_triton_answers_each_request(resnet, monkeypatch):
    utilities = SimpleNamespace(
        Tensor=Tensor,
        TritonError=str,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        get_input_tensor_by_name=lambda request, name: request.tensor,
        InferenceResponse=lambda output_tensors, error=None: SimpleNamespace(
            tensors={t.name: t.array
                     for t in output_tensors}, error=error))
    monkeypatch.setitem(sys.modules, 'triton_python_backend_utils', utilities)
    folder = TRITON / 'mmdynperceiver'
    spec = importlib.util.spec_from_file_location('model',
                                                  folder / '1/model.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parameters = dict(folder=dict(string_value=str(resnet.folder)))
    model = module.TritonPythonModel()
    model.initialize(
        dict(model_config=json.dumps(dict(parameters=parameters))))
    rng = np.random.default_rng(4)
    images = [encoded(rng.integers(0, 255, (60, 50, 3))) for _ in range(5)]
    expected = Runner.load(resnet.folder)(images)
    requests = [Request(content) for content in (*images, b'no image')]
    assert model.execute(requests) is None
    config = (folder / 'config.pbtxt').read_text()
    for request, want in zip(requests, expected):
        response, flags = request.answers.get(timeout=30)
        assert response.error is None and flags == 1
        found = response.tensors
        assert set(found) <= set(re.findall(r'name: "(\w+)"', config))
        assert found['LABEL'] == want.label and found['CLASS'] == want.name
        assert found['EXIT'] == want.exit_index
        assert found['SCORE'] == pytest.approx(want.score, abs=1e-4)
    response, _ = requests[-1].answers.get(timeout=30)
    assert 'no image' in response.error
    model.finalize()
