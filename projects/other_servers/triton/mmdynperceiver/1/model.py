# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The staged scheduler in Triton's Python backend; see the README above."""
import asyncio
import json
import threading
from concurrent.futures import Future
from typing import Any, Dict, List

import numpy as np
import triton_python_backend_utils as triton

from mmdynperceiver.io.describe import one_line
from mmdynperceiver.serve.metrics import Metrics
from mmdynperceiver.serve.settings import Settings, start_service

__all__ = ['TritonPythonModel']


class TritonPythonModel:
    """Answers each request when its image has left."""

    def initialize(self, args: Dict[str, str]) -> None:
        """Open the folder of ``config.pbtxt`` and start the scheduler."""
        parameters = json.loads(args['model_config'])['parameters']
        self.service = start_service(
            Settings(parameters['folder']['string_value'], threads=1),
            Metrics())
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def execute(self, requests: List[Any]) -> None:
        """Hand the images to the scheduler, and do not wait for it."""
        for request in requests:
            image = triton.get_input_tensor_by_name(request, 'IMAGE')
            future = asyncio.run_coroutine_threadsafe(
                self.service.classify([('', bytes(image.as_numpy()[0]))]),
                self.loop)
            sender = request.get_response_sender()
            future.add_done_callback(
                lambda done, sender=sender: self.answer(done, sender))

    def answer(self, done: 'Future[Any]', sender: Any) -> None:
        """Send what an image got, or what is wrong with it."""
        try:
            found, = done.result()
        except Exception as error:  # whatever it is, the client must know
            response = triton.InferenceResponse(
                output_tensors=[], error=triton.TritonError(one_line(error)))
        else:
            response = triton.InferenceResponse(output_tensors=[
                triton.Tensor(name, np.array([found[key]], kind))
                for name, key, kind in (('LABEL', 'label', np.int32),
                                        ('CLASS', 'class', np.object_),
                                        ('SCORE', 'score', np.float32),
                                        ('EXIT', 'exit', np.int32))
            ])
        sender.send(
            response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finalize(self) -> None:
        """Finish what is under way."""
        self.service.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
