# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A network with all that classifying an image file takes."""
import dataclasses
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch

from ..core import DynPerceiver, ExitPolicy, OperatingPoint, run_early_exit
from ..core.operating_point import describe_model
from ..deploy.manifest import Manifest, Segment
from ..deploy.policy import Policy
from ..deploy.preprocessing import Preprocessing
from ..deploy.runner import Outcome, Result, Runner
from ..errors import InputError
from ..io.atomic import check_new_folder
from ..io.checkpoint_file import in_words, misfits
from ..io.model_folder import find_folder, read_folder, save_folder
from ..io.safetensors_file import import_optional
from .card import model_card

__all__ = ['ImageClassifier', 'NetworkRunner']

HubMixin: Any = import_optional('huggingface_hub').PyTorchModelHubMixin


class ImageClassifier(DynPerceiver, HubMixin):
    """A ``DynPerceiver`` that knows its images, classes and thresholds.

    It can be saved as a folder without code, pushed to the Hub, and comes
    back as it was: ``predict`` leaves early as calibrated.

    Args:
        preprocessing (Mapping, optional): Arguments of
            :class:`~mmdynperceiver.deploy.preprocessing.Preprocessing`, from
            a file to normalised pixels. Defaults to None: only ``predict``
            works, not ``classify``.
        classes (Sequence[str], optional): Names of the classes. Defaults to
            None, their numbers.
        operating_points (Sequence[OperatingPoint]): The first is put in
            force; see :meth:`use_operating_point`. Defaults to none.
        about (Mapping, optional): What the card says of its origin. Defaults
            to None.
        **settings: Arguments of :class:`~mmdynperceiver.core.DynPerceiver`.

    Raises:
        ValueError: If something does not fit the network.

    Example:
        >>> net = ImageClassifier(arch='resnet18', width=0.25, num_classes=2,
        ...                       num_latents=16, classes=['cat', 'dog'])
        >>> net.save_pretrained('pets')                      # doctest: +SKIP
        >>> net = ImageClassifier.from_pretrained('pets')    # doctest: +SKIP
    """

    def __init__(self,
                 preprocessing: Optional[Mapping[str, Any]] = None,
                 classes: Optional[Sequence[str]] = None,
                 operating_points: Sequence[OperatingPoint] = (),
                 about: Optional[Mapping[str, Any]] = None,
                 **settings: Any) -> None:
        super().__init__(**settings)
        number = self.num_classes
        names = range(number) if classes is None else classes
        self.classes = list(map(str, names))
        if len(self.classes) != number:
            raise ValueError(f'classes must hold {number} names, one for each '
                             f'class, got {len(self.classes)}')
        self.image_settings = None if preprocessing is None else \
            dict(preprocessing)
        self.preprocessing = None if preprocessing is None else \
            Preprocessing(**preprocessing)
        self.about = dict(about or {})
        self.operating_points = list(operating_points)
        self._check_points()
        if self.operating_points:
            self.use_operating_point(0)

    @classmethod
    def of(cls, net: DynPerceiver, **more: Any) -> 'ImageClassifier':
        """Take over a network, its weights and its policy.

        Args:
            net (DynPerceiver): In its present state; weights are copied.
            **more: ``preprocessing``, ``classes``, ``operating_points`` and
                ``about``.

        Raises:
            ValueError: If its feature branch is not known by a name.
        """
        new = cls(**_nameable(net), **more)
        weights = net.state_dict()
        if new.operating_points:  # outrank what the policy says
            weights = {
                k: v
                for k, v in weights.items() if not k.startswith('policy.')
            }
        new.load_state_dict(weights, strict=False)
        return new.train(net.training)

    def use_operating_point(self, number: int) -> None:
        """Put one of ``operating_points`` in force.

        Raises:
            ValueError: If there is none of this number.
        """
        if not 0 <= number < len(self.operating_points):
            raise ValueError(
                f'there is no operating point {number}: this network has '
                f'{len(self.operating_points)}, from 0')
        self.policy = ExitPolicy.from_operating_point(
            self.operating_points[number])

    def reset_classifier(self, num_classes: int) -> None:
        """See :class:`DynPerceiver`; names and operating points go, too."""
        super().reset_classifier(num_classes)
        self.classes = list(map(str, range(num_classes)))
        self.operating_points = []

    def classify(self, images: Any, batch_size: int = 1) -> List[Result]:
        """Classify image files, folders with images, PIL images or pixels.

        Args:
            images: As of :class:`mmdynperceiver.deploy.Runner`.
            batch_size (int): How many run together. Defaults to 1.

        Returns:
            list[Result]: For each image ``name``, ``score``, ``exit_index``,
            ``confidence``, ``macs`` and more.

        Raises:
            FileNotFoundError: If there is no such file, or no image.
            ValueError: If an image cannot be read, or the network does not
                know how its images are prepared.
        """
        return NetworkRunner(self)(images, batch_size)

    def save_pretrained(self,
                        save_directory: Union[str, os.PathLike],
                        *,
                        config: None = None,
                        repo_id: Optional[str] = None,
                        push_to_hub: bool = False,
                        model_card_kwargs: None = None,
                        **push_to_hub_kwargs: Any) -> Optional[str]:
        """Save config.json, model.safetensors and a card, all or nothing.

        Args:
            save_directory (str | PathLike): New or empty.
            config, model_card_kwargs (None): Both follow from the network.
            repo_id (str, optional): The repository to push to. Defaults to
                None, the name of the folder.
            push_to_hub (bool): Whether to push it, too. Defaults to False.
            **push_to_hub_kwargs: As of ``PyTorchModelHubMixin.push_to_hub``.

        Returns:
            str, optional: The address of the commit, if it was pushed.

        Raises:
            FileExistsError: If there is something at this path.
            ValueError: If the feature branch is not known by a name.
        """
        if config is not None or model_card_kwargs is not None:
            raise ValueError('config.json and the card follow from the '
                             'network: set classes, operating_points or about')
        path = Path(save_directory).expanduser()
        check_new_folder(path)
        content = self.describe()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_folder(path, content, self.state_dict(),
                    model_card(content, path.name))
        if not push_to_hub:
            return None
        push: Any = self.push_to_hub
        return push(repo_id or path.name, **push_to_hub_kwargs)

    @classmethod
    def from_pretrained(cls,
                        pretrained_model_name_or_path: Union[str, os.PathLike],
                        *,
                        operating_point: Optional[int] = None,
                        revision: Optional[str] = None,
                        **options: Any) -> 'ImageClassifier':
        """Load a saved network, in eval mode.

        Args:
            pretrained_model_name_or_path (str | PathLike): A folder, or
                'owner/repository' on the Hub.
            operating_point (int, optional): Which of its operating points.
                Defaults to None, the one it was saved with.
            revision (str, optional): Of the repository. Defaults to None,
                the latest.
            **options: As of
                :func:`~mmdynperceiver.io.model_folder.find_folder`.

        Raises:
            FileNotFoundError: If a file is missing.
            OSError: If the download fails.
            ValueError: If a file was changed, is of another version, or
                does not hold such a network.
        """
        folder = find_folder(pretrained_model_name_or_path, revision,
                             **options)
        content, weights = read_folder(folder)
        if content.get('kind') != 'network':
            raise ValueError(
                f'{folder!r} holds a model of a host: '
                f'mmdynperceiver.hub.from_pretrained loads both kinds')
        return cls.from_content(content, weights, folder, operating_point)

    @classmethod
    def from_content(
            cls,
            content: Mapping[str, Any],
            weights: Mapping[str, torch.Tensor],
            folder: str,
            operating_point: Optional[int] = None) -> 'ImageClassifier':
        """Build it of what a folder holds; see :meth:`from_pretrained`."""
        try:
            points = [
                OperatingPoint.from_content(point)
                for point in content['operating_points']
            ]
            net = cls(
                preprocessing=content['preprocessing'],
                classes=content['classes'],
                operating_points=points,
                about=content['about'],
                **content['model'])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{folder!r} does not describe a network that '
                             f'this version knows: {error}') from error
        found = misfits(net.state_dict(), weights)
        if found:
            raise ValueError(f'the weights in {folder!r} are not those of the '
                             f'network in its config; {in_words(found)}')
        if operating_point is None:
            # What was in force when it was saved.
            net.policy = ExitPolicy(net.exits.num_exits)
        net.load_state_dict(weights)
        net.policy.certificate = content.get('certificate') or {}
        if operating_point is not None:
            net.use_operating_point(operating_point)
        return net.eval()

    def describe(self) -> Dict[str, Any]:
        """What config.json says, of what JSON holds."""
        policy = self.policy
        size = (224, 224) if self.preprocessing is None else \
            self.preprocessing.size
        return dict(
            kind='network',
            task='image-classification',
            model=_nameable(self),
            preprocessing=self.image_settings,
            classes=self.classes,
            macs_per_exit=list(self.macs_per_exit((3, *size))),
            policy=dict(policy.settings, thresholds=policy.thresholds),
            certificate=dict(policy.certificate),
            operating_points=[
                dataclasses.asdict(point) for point in self.operating_points
            ],
            about=self.about)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """The card, as ``huggingface_hub`` has it."""
        text = model_card(self.describe(), 'Dynamic Perceiver')
        return import_optional('huggingface_hub').ModelCard(text)

    def _check_points(self) -> None:
        """Refuse operating points of another network."""
        own = describe_model(*self.exit_parts())
        for point in self.operating_points:
            made_for = dict(point.model, num_exits=point.num_exits)
            for name, value in own.items():
                if made_for.get(name, value) != value:
                    raise ValueError(
                        f'an operating point is made for another network: '
                        f'its {name} is {made_for[name]}, here it is {value}')


def _nameable(net: DynPerceiver) -> Dict[str, Any]:
    """The arguments of a network, of what JSON holds."""
    if net.settings['arch'] is None:
        raise ValueError(
            'the feature branch was cut from a module, which a folder without '
            'code cannot hold: name it as arch (torchvision.NAME), or save '
            'the model of a config (mmdynperceiver convert)')
    return net.settings


class NetworkRunner(Runner):
    """The runner of exported folders, for a network in PyTorch.

    Args:
        net (ImageClassifier): In eval mode; its policy is taken as it is.
    """

    def __init__(self, net: ImageClassifier) -> None:
        if net.image_settings is None:
            raise InputError('this network was saved without the preparation '
                             'of its images: give normalised images to '
                             'predict')
        size = net.image_settings['size']
        number = net.exits.num_exits
        settings = dict(net.policy.settings, thresholds=net.policy.thresholds)
        manifest = Manifest(
            segments=[Segment('', [], []) for _ in range(number)],
            tensors=dict(images=['batch', 3, *size]),
            preprocessing=net.image_settings,
            policy=settings,
            classes=net.classes,
            macs_per_exit=list(net.macs_per_exit((3, *size))))
        super().__init__(manifest, (), Policy(number, **settings))
        self.net = net

    def _run(self,
             batch: np.ndarray,
             policy: Policy,
             held: Any,
             out: Outcome,
             staged: bool = False) -> None:
        """Run the network; ``milliseconds`` are those until the last image
        has left."""
        start = time.perf_counter()
        images = torch.from_numpy(batch).to(self.net.trunk.latents.device)
        decide = ExitPolicy(policy.num_exits, policy.thresholds,
                            **policy.settings)
        found = run_early_exit(*self.net.exit_parts(), decide, images)
        for own, value in zip(out, found):
            own[:] = value.cpu().numpy()
        out.milliseconds[:] = 1000 * (time.perf_counter() - start)
