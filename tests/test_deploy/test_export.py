# Copyright (c) mmdynperceiver contributors. All rights reserved.
import importlib.util
import json
import math
import os

import numpy as np
import onnx
import pytest
import torch

from mmdynperceiver.core import DynPerceiver, ExitPolicy
from mmdynperceiver.core.attention import Attention
from mmdynperceiver.deploy import Manifest, Runner
from mmdynperceiver.deploy import export as module
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.deploy.graph_forms import copies_for_export
from mmdynperceiver.deploy.onnxruntime_session import FIRST_VERSIONS
from mmdynperceiver.deploy.quantize import unquantized
from mmdynperceiver.exit_settings import NEVER
from .conftest import CLASSES, PREPROCESSING, SIZE, build_net, export


def test_folder_holds_graphs_and_manifest_alone(resnet):
    assert sorted(os.listdir(resnet.folder)) == [
        'manifest.json', *(f'segment{k}.onnx' for k in range(4))
    ]
    manifest = Manifest.load(resnet.folder)
    assert manifest.classes == list(CLASSES)
    assert manifest.macs_per_exit == list(
        resnet.net.macs_per_exit((3, SIZE, SIZE)))
    assert manifest.policy == dict(
        thresholds=None, criterion='max_prob', temperature=None)
    assert manifest.versions['torch'] == torch.__version__


def test_segments_carry_no_more_than_is_read(resnet):
    segments = Manifest.load(resnet.folder).segments
    assert [s.inputs for s in segments] == [['images'],
                                            ['x0', 'z0', 'logits0'], ['x1'],
                                            ['x2', 'z1', 'logits1']]
    assert [s.outputs for s in segments] == [['logits0', 'x0', 'z0'],
                                             ['logits1', 'x1', 'z1'],
                                             ['logits2', 'x2'], ['logits3']]


def test_graphs_are_small_and_tell_nothing_of_this_machine(resnet):
    kinds = []
    for segment in Manifest.load(resnet.folder).segments:
        path = os.path.join(resnet.folder, segment.file)
        model = onnx.load(path)
        kinds += [node.op_type for node in model.graph.node]
        for entry in (*model.graph.input, *model.graph.output):
            assert entry.type.tensor_type.shape.dim[0].dim_param == 'batch'
        with open(path, 'rb') as file:
            content = file.read()
        assert os.getcwd().encode() not in content
    attentions = sum(isinstance(m, Attention) for m in resnet.net.modules())
    assert kinds.count('Attention') == attentions
    assert 'BatchNormalization' not in kinds
    assert 'Loop' not in kinds and 'If' not in kinds


def test_sizes_are_not_looked_up_in_graphs(exported):
    """All but the batch are known."""
    for segment in Manifest.read(exported.folder).segments:
        nodes = onnx.load(os.path.join(exported.folder,
                                       segment.file)).graph.node
        made = {name: node for node in nodes for name in node.output}
        for node in nodes:
            if node.op_type == 'Reshape':
                shape = made.get(node.input[1])
                assert shape is None or shape.op_type in ('Constant', 'Shape')
        read = {name for node in nodes for name in node.input}
        outputs = set(segment.outputs)
        assert all(read & set(node.output) or outputs & set(node.output)
                   for node in nodes)


@pytest.mark.parametrize('opset', [18, 20])
def test_older_operator_sets_give_the_same_logits(tmp_path, batch, opset):
    net = build_net('mobilenet')
    export_network(
        *net.exit_parts(),
        tmp_path / 'out',
        PREPROCESSING,
        net.policy,
        CLASSES,
        opset=opset)
    manifest = Manifest.load(tmp_path / 'out')
    assert manifest.versions['opset'] == opset
    assert manifest.versions['needed'] == dict(
        onnxruntime=FIRST_VERSIONS[opset])
    kinds = set()
    for graph in manifest.read_graphs(tmp_path / 'out'):
        model = onnx.load_from_string(graph.content)
        assert graph.opsets == {'': opset}
        assert model.ir_version <= 9
        kinds.update(node.op_type for node in model.graph.node)
        # Attention is left out where the others are quantised.
        weighted = {
            node.output[0]
            for node in model.graph.node if node.op_type == 'Softmax'
        }
        products = [
            node.name for node in model.graph.node
            if node.op_type == 'MatMul' and weighted & {*node.input}
        ]
        assert len(products) == len(weighted)
        assert set(products) <= set(unquantized(model.graph))
    assert 'Attention' not in kinds and 'Softmax' in kinds
    with torch.no_grad():
        expected = net(torch.from_numpy(batch))
    for runtime in ('onnxruntime', 'openvino'):
        if importlib.util.find_spec(runtime) is None:
            continue
        runner = Runner.load(tmp_path / 'out', runtime)
        for got, logits in zip(runner.all_exits(batch), expected):
            np.testing.assert_allclose(got, logits, atol=1e-3)


@pytest.mark.parametrize('opset', [17, 24, True, '20', 20.5])
def test_other_operator_sets_are_refused(tmp_path, opset):
    net = build_net()
    with pytest.raises(ValueError, match='opset must be .* 18 to 23, got'):
        export_network(
            *net.exit_parts(),
            tmp_path / 'out',
            PREPROCESSING,
            net.policy,
            CLASSES,
            opset=opset)
    assert not list(tmp_path.iterdir())


def test_infinite_thresholds_let_nobody_leave(tmp_path, batch):
    net = build_net()
    export_network(*net.exit_parts(), tmp_path / 'out', PREPROCESSING,
                   ExitPolicy(4, (math.inf, 0.5, math.inf)), CLASSES)
    runner = Runner.load(tmp_path / 'out')
    assert runner.policy.thresholds == (NEVER, 0.5, NEVER)
    assert 0 not in runner.predict(batch).exit_index


@pytest.mark.parametrize('settings, carried', [
    (dict(fkt=False), ['x2', 'z1']),
    (dict(z2x=False, last_z2x=False, fkt=False), ['x2', 'z1']),
    (dict(token_mixer=False, x2z=False), ['x2', 'z1', 'logits1']),
    (dict(exits='feature'), None),
    (dict(exits='last'), None),
])
def test_ablations(tmp_path, settings, carried):
    net = build_net(**settings)
    export(net, tmp_path / 'out')  # compares with PyTorch
    segments = Manifest.load(tmp_path / 'out').segments
    assert len(segments) == net.exits.num_exits
    if carried:
        assert segments[-1].inputs == carried


def test_classic_multi_exit_network(tmp_path):
    from mmdynperceiver.core import ConvTrunk
    from mmdynperceiver.core.dyn_perceiver import build_exits
    trunk = ConvTrunk('resnet18', width=0.25, exit_stages=(2, 3)).eval()
    exits = build_exits(trunk, len(CLASSES)).eval()
    module.export_network(trunk, exits, tmp_path / 'out', PREPROCESSING,
                          ExitPolicy(2, (0.5, )), CLASSES)
    manifest = Manifest.load(tmp_path / 'out')
    assert [s.inputs for s in manifest.segments] == [['images'], ['x0']]
    assert manifest.policy['thresholds'] == [0.5]


@pytest.mark.parametrize('size', [48, 56, 65])
def test_copies_for_export_compute_the_same(size):
    net = build_net('mobilenet').double()
    images = torch.randn(2, 3, size, size + 3, dtype=torch.float64)
    trunk, exits = copies_for_export(*net.exit_parts(), (size, size + 3))
    with torch.no_grad():
        for got, expected in zip(
                exits(trunk(images)), net(images), strict=True):
            torch.testing.assert_close(got, expected)


def test_sizes_that_are_no_multiple_of_the_cells(tmp_path):
    """The deepest maps, of 7x7 places, are pooled without any pooling."""
    net = build_net('mobilenet')
    exported = module.export_segments(*net.exit_parts(), (3, 196, 196),
                                      str(tmp_path))
    assert module.verify_segments(*net.exit_parts(), exported,
                                  str(tmp_path)) < 1e-4


def test_network_is_left_as_it_was(resnet, tmp_path):
    net = build_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    names = [type(m).__name__ for m in net.modules()]
    export(net, tmp_path / 'out')
    assert [type(m).__name__ for m in net.modules()] == names
    assert not net.training and not net.exits.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_other_precisions_are_exported_in_single(tmp_path, batch):
    net = build_net().bfloat16()
    folder = export(net, tmp_path / 'out').folder
    assert all(p.dtype == torch.bfloat16 for p in net.parameters())
    with torch.no_grad():
        expected = net.float()(torch.from_numpy(batch))
    for got, logits in zip(Runner.load(folder).all_exits(batch), expected):
        np.testing.assert_allclose(got, logits.numpy(), atol=1e-4)


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    net = build_net()
    with pytest.raises(ValueError, match='5 classes, got 2 names'):
        module.export_network(*net.exit_parts(), tmp_path / 'out',
                              PREPROCESSING, net.policy, ['a', 'b'])
    # Weights that change behind the exporter's back: the graphs are wrong.
    plan = module.export_segments

    def spoilt(trunk, exits, *args):
        exported = plan(trunk, exits, *args)
        with torch.no_grad():
            exits.classifiers[2][-1].bias += 1
        return exported

    monkeypatch.setattr(module, 'export_segments', spoilt)
    with pytest.raises(RuntimeError, match='other logits than PyTorch'):
        export(net, tmp_path / 'out')
    assert not list(tmp_path.iterdir())


def test_overwrites_nothing(resnet, tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='something at .* already'):
        export(resnet.net, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_refuses_images_smaller_than_the_stride(tmp_path):
    net = DynPerceiver('resnet18', width=0.25, num_latents=8).eval()
    with pytest.raises(ValueError, match='at least 32 pixels'):
        module.export_segments(*net.exit_parts(), (3, 16, 16), str(tmp_path))


def test_manifest_is_plain_json(resnet):
    with open(os.path.join(resnet.folder, 'manifest.json')) as file:
        content = json.load(file)
    assert content['format'] == 1
    assert content['source']['largest_logit_difference'] < 1e-3
    assert set(content['sha256']) == {f'segment{k}.onnx' for k in range(4)}


class Adapter(torch.nn.Module):
    """A wrapper that is no linear layer."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x):
        return self.base_layer(x) + self.base_layer(x).tanh()


def test_layers_that_are_no_longer_plain(tmp_path, monkeypatch):
    """Exporting compares with PyTorch, so it is enough that they count."""
    net = build_net('mobilenet')
    images = torch.randn(2, 3, SIZE, SIZE)
    stage = net.trunk.stages[1]
    stage.x2z.attn.proj = Adapter(stage.x2z.attn.proj)
    stage.z2x.mlp.fc2 = Adapter(stage.z2x.mlp.fc2)
    pooled = next(m for m in stage.conv.modules()
                  if isinstance(m, torch.nn.AdaptiveAvgPool2d))
    hooked = (stage.x2z.dw_conv, stage.x2z.attn.kv, pooled, net.exits.fkt[0],
              net.trunk.last_z2x.mlp.fc2, net.exits.classifiers[3][0])
    with torch.no_grad():
        before = net(images)
        for layer in hooked:
            layer.register_forward_hook(lambda m, i, out: 3 * out)
        after = net(images)
        assert all((one - other).abs().max() > 0.1
                   for one, other in zip(before, after))
        trunk, exits = copies_for_export(*net.exit_parts(), (SIZE, SIZE))
        for one, other in zip(exits(trunk(images)), after, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    export(net, tmp_path / 'out')
    macs = Manifest.load(tmp_path / 'out').macs_per_exit
    assert macs == list(net.macs_per_exit((3, SIZE, SIZE)))
    assert macs > list(build_net('mobilenet').macs_per_exit((3, SIZE, SIZE)))


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_refuses_layers_that_onnx_does_not_know(tmp_path):
    quantisation = pytest.importorskip('torch.ao.quantization')
    net = quantisation.quantize_dynamic(build_net(), {torch.nn.Linear})
    with pytest.raises(
            ValueError, match=r'trunk.stages.0.x2z.attn.q .*linear_dynamic'):
        export(net, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
