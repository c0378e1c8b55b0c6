# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch
from tiny_detector import TRUNK, build_detector, make_batch, spread_gains

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.detection import PyramidFill
from mmdynperceiver.detection.image_losses import image_losses, total_loss


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = build_detector()
    # Classes that differ from anchor to anchor, so that boxes come out.
    torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.3)
    return spread_gains(model.eval())


def evaluate_all(model, data, keep_losses=False):
    model.evaluate_all_exits, model.keep_losses = True, keep_losses
    try:
        with torch.no_grad():
            return model(**copied(data), mode='predict')
    finally:
        model.evaluate_all_exits = model.keep_losses = False


def copied(data):
    samples = [sample.clone() for sample in data['data_samples']]
    return dict(inputs=data['inputs'], data_samples=samples)


def thresholds_between(model, data, places=(4, 2)):
    """Thresholds well between the confidences of single images."""
    conf = torch.stack([
        s.exit_logits.squeeze(1).sigmoid() for s in evaluate_all(model, data)
    ])
    thresholds = []
    for k, place in enumerate(places):
        values = conf[:, k].sort().values
        thresholds.append(float(values[place - 1] + values[place]) / 2)
    return thresholds


def assert_same(found, expected):
    for one, other in zip(found, expected):
        assert one.exit_index == other.exit_index
        assert one.macs == other.macs
        for name in ('bboxes', 'scores'):
            torch.testing.assert_close(
                one.pred_instances[name],
                other.pred_instances[name],
                atol=1e-3,
                rtol=1e-4)
        assert torch.equal(one.pred_instances.labels,
                           other.pred_instances.labels)


def test_stopping_equals_the_simulation(model):
    data = make_batch(model, number=8)
    model.policy.set_thresholds(thresholds_between(model, data))
    simulated = evaluate_all(model, data)
    assert {sample.exit_index for sample in simulated} == {0, 1, 2}
    assert any(len(sample.pred_instances) for sample in simulated)
    with torch.no_grad():
        stopped = model(**copied(data), mode='predict')
    assert_same(stopped, simulated)
    model.policy.set_thresholds(None)


def test_batch_equals_single_images(model):
    data = make_batch(model, number=6)
    model.policy.set_thresholds(thresholds_between(model, data, (3, 2)))
    with torch.no_grad():
        together = model(**copied(data), mode='predict')
        alone = [
            model(
                inputs=data['inputs'][i:i + 1],
                data_samples=[data['data_samples'][i].clone()],
                mode='predict')[0] for i in range(6)
        ]
    assert_same(alone, together)
    model.policy.set_thresholds(None)


def test_work_behind_the_exit_is_saved(model):
    """Each part sees only the images that get there."""
    data = make_batch(model, number=6)
    model.policy.set_thresholds(thresholds_between(model, data, (3, 2)))
    seen = {}
    stages = model.backbone.net.stages
    parts = dict(
        stage3=stages[2].conv,
        stage4=stages[3].conv,
        last=model.backbone.net.last_z2x,
        fill0=model.exits.fills[0].levels[0].down,
        fill1=model.exits.fills[1].levels[0].down)
    hooks = [
        part.register_forward_hook(lambda module, args, out, name=name: seen.
                                   update({name: len(args[0])}))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        found = model(**copied(data), mode='predict')
    for hook in hooks:
        hook.remove()
    left = [sample.exit_index for sample in found]
    count = [left.count(k) for k in range(3)]
    assert seen['stage3'] == count[1] + count[2]
    assert seen['stage4'] == seen['last'] == count[2]
    assert seen['fill0'] == count[0] and seen['fill1'] == count[1]
    model.policy.set_thresholds(None)


@pytest.mark.parametrize('exit', [0, 1, 2])
def test_fixed_exit(model, exit):
    data = make_batch(model, number=3)
    expected = evaluate_all(model, data)
    fixed = build_detector(exit_index=exit).eval()
    fixed.load_state_dict(model.state_dict())
    with torch.no_grad():
        found = fixed(**copied(data), mode='predict')
    for sample, other in zip(found, expected):
        assert sample.exit_index == exit
        torch.testing.assert_close(
            sample.pred_instances.scores,
            other.exit_pred_instances[exit].scores,
            atol=1e-4,
            rtol=1e-4)


def test_without_thresholds_nothing_stops_early(model):
    data = make_batch(model, number=3)
    with torch.no_grad():
        found = model(**copied(data), mode='predict')
    assert [sample.exit_index for sample in found] == [2, 2, 2]


def test_every_parameter_gets_a_gradient():
    model = build_detector().train()
    data = make_batch(model, training=True)
    losses = model(**data, mode='loss')
    names = {'loss_cls', 'loss_bbox'}
    names |= {f'{name}_early' for name in names}
    assert names | {'loss_gain0', 'loss_gain1', 'gain0', 'gain1'
                    } == set(losses)
    model.parse_losses(losses)[0].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without


def test_the_policy_does_not_train_the_trunk():
    model = build_detector().train()
    data = make_batch(model, training=True)
    losses = model(**data, mode='loss')
    (losses['loss_gain0'] + losses['loss_gain1']).backward()
    trained = {
        name.split('.')[1]
        for name, p in model.named_parameters() if p.grad is not None
    }
    assert trained == {'gains'}


def test_gains_are_learned():
    """A head fits gains that follow from the latents."""
    from mmdynperceiver.detection import GainHead
    head = GainHead(8)
    z = torch.randn(64, 4, 8)
    gains = 0.3 * z.mean(1)[:, 0]
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (head(z).squeeze(1) - gains).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * gains.var()


def test_image_losses_are_those_of_each_image_alone(model):
    data = make_batch(model, number=3, training=True)
    outputs = model.bbox_head(model.neck(model.backbone(data['inputs'])))
    found = image_losses(model.bbox_head, outputs, data['data_samples'])
    assert total_loss(found).shape == (3, )
    for i, sample in enumerate(data['data_samples']):
        feats = model.neck(model.backbone(data['inputs'][i:i + 1]))
        alone = model.bbox_head.loss(feats, [sample])
        for name, value in alone.items():
            torch.testing.assert_close(found[name][i],
                                       torch.stack(value).sum())


def test_losses_of_all_exits(model):
    data = make_batch(model, number=2, training=True)
    found = evaluate_all(model, data, keep_losses=True)
    feats = model.neck(model.backbone(data['inputs']))
    expected = total_loss(
        image_losses(model.bbox_head, model.bbox_head(feats),
                     data['data_samples']))
    for sample, value in zip(found, expected):
        assert sample.exit_losses.shape == (3, )
        torch.testing.assert_close(sample.exit_losses[2], value)


@pytest.mark.parametrize('size', [(64, 64), (65, 97)])
def test_filled_levels_have_the_size_of_the_real_ones(model, size):
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        pyramids = [maps for maps, _ in model._walk(images)]
    for maps in pyramids[:2]:
        for i, level in maps.items():
            assert level.shape == pyramids[2][i].shape


def test_fill_of_maps_of_one_stride():
    """MobileNet-v3: X_3 and X_4 have one stride."""
    model = build_detector(
        backbone=dict(
            type='DynPerceiverDetBackbone',
            arch='mobilenetv3-large',
            width=0.5,
            num_latents=16,
            depth_factor=(0, 0, 1 / 9, 1 / 3)),
        neck=dict(
            type='FPN',
            in_channels=[16, 24, 40, 480],
            out_channels=48,
            start_level=1,
            num_outs=3)).eval()
    assert [fill.missing for fill in model.exits.fills] == [(4, ), (4, )]
    with torch.no_grad():
        pyramids = [maps for maps, _ in model._walk(torch.rand(1, 3, 64, 64))]
    assert pyramids[0][4].shape == pyramids[1][4].shape == pyramids[2][4].shape
    macs = model.macs_per_exit((3, 64, 64))
    assert macs[0] < macs[1] < macs[2]


def test_macs_count_what_runs(model):
    macs = model.macs_per_exit((3, 64, 64))
    assert 0 < macs[0] < macs[1] < macs[2]
    backbone, = model.backbone.macs_per_exit((3, 64, 64))
    policy = sum(h.fc1.weight.numel() + h.fc2.weight.numel()
                 for h in model.exits.gains)
    plain = build_detector(early=False)
    from mmdynperceiver.core import count_macs
    whole, = count_macs(plain, lambda m, x: [m.bbox_head(m.extract_feat(x))],
                        (3, 64, 64))
    assert macs[2] == whole + policy
    assert backbone < whole


def test_checkpoint_carries_the_thresholds(model):
    source = build_detector(thresholds=(0.6, 0.5))
    other = build_detector()
    other.load_state_dict(source.state_dict())
    assert other.policy.thresholds == pytest.approx((0.6, 0.5))
    assert other.policy.criterion == 'learned'


def test_thresholds_go_with_the_weights_that_they_belong_to(model):
    calibrated = build_detector(thresholds=(0.6, 0.5)).state_dict()
    other = build_detector()
    other.load_state_dict(calibrated)
    other.load_state_dict(model.state_dict())
    assert other.policy.thresholds is None
    other.load_state_dict(calibrated)
    other.train()
    other(**make_batch(other, training=True), mode='loss')
    assert other.policy.thresholds is None
    assert other.policy.criterion == 'learned'


def test_operating_point_of_a_file(tmp_path, model):
    made_for = describe_model(*model.exit_parts())
    point = OperatingPoint((0.6, 0.5), 'learned', model=made_for)
    path = str(tmp_path / 'point.json')
    point.save(path)
    built = build_detector(thresholds=path)
    assert built.policy.thresholds == pytest.approx((0.6, 0.5))
    OperatingPoint((0.6, 0.5), model=made_for).save(path)
    message = "'max_prob', this model has 'learned'"
    with pytest.raises(ValueError, match=message):
        build_detector(thresholds=path)


@pytest.mark.parametrize('changes, message', [
    (dict(thresholds=(0.5, )), '3 exits need 2 thresholds'),
    (dict(thresholds=(0.5, 0.5),
          exit_index=1), 'either thresholds or a fixed exit'),
    (dict(exit_index=3), 'one of 0 to 2'),
    (dict(
        backbone=dict(type='DynPerceiverDetBackbone', **TRUNK,
                      last_z2x=False)), 'needs a backbone with both branches'),
    (dict(
        backbone=dict(
            type='DynPerceiverDetBackbone', **TRUNK, out_indices=(0, 1, 2))),
     'must hold X_4'),
])
def test_refuses_options(changes, message):
    with pytest.raises(ValueError, match=message):
        build_detector(**changes)


def test_fill_reads_the_latents():
    from mmdynperceiver.core.segments import TrunkState
    fill = PyramidFill(2, (3, 4), (8, 8, 16, 24, 32), (4, 4, 8, 16, 32), 16)
    x = torch.rand(1, 16, 9, 7)
    fill.eval()
    first = fill(TrunkState(x, torch.rand(1, 4, 16)))
    second = fill(TrunkState(x, torch.rand(1, 4, 16)))
    assert {
        i: tuple(m.shape[1:])
        for i, m in first.items()
    } == {
        3: (24, 5, 4),
        4: (32, 3, 2)
    }
    assert not torch.equal(first[3], second[3])
