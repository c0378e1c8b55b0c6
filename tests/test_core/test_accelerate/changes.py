# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Ways to make a layer give twice what it gave, without new weights."""
import copy

import torch
from torch import nn
from torch.nn.utils import parametrize


class Adapter(nn.Module):
    """A wrapper that is no linear layer, as of low-rank adapters."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x):
        return self.base_layer(x) + self.base_layer(x)


class OpenAdapter(Adapter):
    """One that shows the weights of what it wraps."""

    weight = property(lambda self: self.base_layer.weight)
    bias = property(lambda self: self.base_layer.bias)
    in_features = property(lambda self: self.base_layer.in_features)
    out_features = property(lambda self: self.base_layer.out_features)


class Twice(nn.Module):
    """A parametrisation."""

    def forward(self, weight):
        return 2 * weight


def replace(net, place, make):
    owner, _, name = place.rpartition('.')
    net.get_submodule(owner)._modules[name] = make(net.get_submodule(place))


def wrap(net, place):
    replace(net, place, Adapter)


def wrap_openly(net, place):
    replace(net, place, OpenAdapter)


def hook(net, place):
    net.get_submodule(place).register_forward_hook(lambda m, i, out: 2 * out)


def subclass(net, place):
    layer = net.get_submodule(place)
    kind = type(layer)
    layer.__class__ = type('Doubled', (kind, ), {
        'forward': lambda self, x: 2 * kind.forward(self, x)
    })


def override(net, place):
    layer = net.get_submodule(place)
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def parametrise(net, place):
    layer = net.get_submodule(place)
    for name in dict(layer.named_parameters(recurse=False)):
        parametrize.register_parametrization(layer, name, Twice())


def double(net, place):
    """What all of these come to."""
    with torch.no_grad():
        for parameter in net.get_submodule(place).parameters():
            parameter.mul_(2)


CHANGES = [wrap, wrap_openly, hook, subclass, override, parametrise]


def changed(original, change, *places):
    net = copy.deepcopy(original)
    for place in places:
        change(net, place)
    return net
