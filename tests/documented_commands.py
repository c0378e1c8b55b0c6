# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The shell commands in README and docs."""
import re
import shlex
from pathlib import Path
from string import Template
from typing import Dict, Iterator, List, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([
    ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'),
    *(ROOT / 'configs').glob('*/README.md'),
    *(ROOT / 'projects').glob('*/README.md')
])
BLOCK = re.compile(r'^```\w*\n(.*?)^```', re.MULTILINE | re.DOTALL)
START = re.compile(r'^\s*([A-Z_]+=\S+ )*(python|mmdynperceiver) ',
                   re.MULTILINE)
ASSIGNMENT = re.compile(r'^([A-Z_]+)=(.*)$')
LOOP = re.compile(r'^for ([A-Z_]+) in ([^;]+)')


class Command(NamedTuple):
    """A command of a page.

    Args:
        page (str): The page, as seen from the root.
        words (list[str]): The program and its arguments, variables replaced.
    """

    page: str
    words: List[str]


def find_commands() -> List[Command]:
    """All commands of Python or of this package, page by page.

    ``mmdynperceiver`` is written as ``python -m mmdynperceiver``.
    """
    return [
        Command(page.relative_to(ROOT).as_posix(), words) for page in PAGES
        for words in _commands_of(page)
    ]


def _commands_of(page: Path) -> Iterator[List[str]]:
    """The commands of one page; variables hold from block to block."""
    variables: Dict[str, str] = {}
    for block in BLOCK.findall(page.read_text(encoding='utf-8')):
        if not START.search(block):
            continue
        for line in block.replace('\\\n', ' ').splitlines():
            loop = LOOP.match(line.strip())
            if loop:
                variables[loop.group(1)] = loop.group(2).split()[0]
                continue
            words = shlex.split(
                Template(line).safe_substitute(variables), comments=True)
            while words and ASSIGNMENT.match(words[0]):
                name, value = ASSIGNMENT.match(words.pop(0)).groups()
                variables[name] = value
            if words and words[0] == 'mmdynperceiver':
                words[:0] = ['python', '-m']
            if words and words[0] == 'python':
                yield [word for word in words if word != '...']
