# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is on a page and in a picture."""
import itertools
import re
from html.parser import HTMLParser

from PIL import Image


class Element:
    """An element of a page: its attributes, its parts and its text."""

    def __init__(self, tag, attributes=(), parent=None):
        self.tag, self.attributes = tag, dict(attributes)
        self.parent, self.parts = parent, []

    def __iter__(self):
        for part in self.parts:
            if isinstance(part, Element):
                yield part
                yield from part

    def all(self, tag, kind=None):
        return [
            part for part in self if part.tag == tag and
            (kind is None or kind in part.attributes.get('class', '').split())
        ]

    @property
    def text(self):
        """With single spaces, as it is shown."""
        return ' '.join(
            part if isinstance(part, str) else part.text
            for part in self.parts)

    def cells(self):
        """Text of the cells of a table, row by row, less its headings."""
        body, = self.all('tbody')
        return [[cell.text for cell in row.parts] for row in body.all('tr')]


class Page(HTMLParser):
    """A tree of elements; every one of them must be closed."""

    void = {'meta', 'img'}

    def __init__(self, path):
        super().__init__()
        self.place = self.root = Element('page')
        self.feed(path.read_text())
        assert self.place is self.root

    def handle_starttag(self, tag, attributes):
        element = Element(tag, attributes, self.place)
        self.place.parts.append(element)
        if tag not in self.void:
            self.place = element

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.place.tag == tag
            self.place = self.place.parent

    def handle_data(self, data):
        # No-break spaces stay.
        data = re.sub(r'[ \n]+', ' ', data).strip(' ')
        if data:
            self.place.parts.append(data)

    def section(self, name):
        found, = [
            part for part in self.root.all('section')
            if part.attributes['id'] == name
        ]
        return found


def apart(*boxes):
    """Whether none of the boxes lies over another."""
    return not any(
        one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def labels_of(axes):
    """Texts in a plot with their boxes, which must not overlap."""
    found = {
        text.get_text(): text.get_window_extent()
        for text in axes.texts if text.get_text()
    }
    frame = axes.get_window_extent()
    assert all(
        frame.contains(*box.min) and frame.contains(*box.max)
        for box in found.values()), found
    assert apart(*found.values()), found
    return found


def colour_at(path, axes, x, y):
    """The colour of a PNG file at a point of one of its figure's axes."""
    with Image.open(path) as image:
        assert image.format == 'PNG'
        scale = image.width / axes.figure.bbox.width
        right, up = scale * axes.transData.transform((x, y))
        pixel = image.convert('RGB').getpixel(
            (int(right), int(image.height - up)))
    return '#{:02x}{:02x}{:02x}'.format(*pixel)
