# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A page of HTML as a tree, as a browser would read it."""
import re
from html.parser import HTMLParser


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
