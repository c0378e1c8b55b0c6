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
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r'^([A-Z_]+)=(.*)$')
LOOP = re.compile(r'^for ([A-Z_]+) in ([^;]+); do\n(.*?)^done\n',
                  re.MULTILINE | re.DOTALL)


class Command(NamedTuple):
    """A command of a page.

    Args:
        page (str): The page, as seen from the root.
        words (list[str]): The program and its arguments, variables replaced;
            none for a block of Python.
        code (str): That block.
        variables (dict[str, str]): Those of the shell that it may name.
    """

    page: str
    words: List[str]
    code: str = ''
    variables: Dict[str, str] = {}

    @property
    def text(self) -> str:
        """The words in one line."""
        return ' '.join(self.words)

    @property
    def is_ours(self) -> bool:
        """Whether Python runs it, or it is this package's."""
        return self.words[:1] == ['python']


def find_commands() -> List[Command]:
    """All commands of Python or of this package, page by page.

    ``mmdynperceiver`` is written as ``python -m mmdynperceiver``.
    """
    return [command for command in find_lines() if command.is_ours]


def find_lines() -> List[Command]:
    """These and all other commands of a shell, page by page."""
    return [step for step in find_steps() if step.words]


def find_steps() -> List[Command]:
    """The commands of a shell and the blocks of Python, page by page."""
    return [
        Command(page.relative_to(ROOT).as_posix(), *step) for page in PAGES
        for step in _steps_of(page)
    ]


def _steps_of(page: Path) -> Iterator[tuple]:
    """Those of one page; variables hold from block to block."""
    variables: Dict[str, str] = {}
    for language, block in BLOCK.findall(page.read_text(encoding='utf-8')):
        if language == 'python':
            yield [], block, dict(variables)
        elif language == 'shell':
            for words in _commands_of(block, variables):
                yield (words, )


def _commands_of(block: str, variables: Dict[str, str]) -> Iterator[List[str]]:
    """The commands of a block; what they set is added to the variables."""
    block = LOOP.sub(_repeat, block.replace('\\\n', ' '))
    for line in block.splitlines():
        words = shlex.split(
            Template(line).safe_substitute(variables), comments=True)
        for part in ' \n'.join(words).split(' \n&& \n'):
            words = [w for w in part.split(' \n') if w and w != '...']
            while words and ASSIGNMENT.match(words[0]):
                name, value = ASSIGNMENT.match(words.pop(0)).groups()
                variables[name] = value
            if words and words[0] == 'mmdynperceiver':
                words[:0] = ['python', '-m']
            if words:
                yield words


def _repeat(loop: 're.Match[str]') -> str:
    """The body of a loop, once for each value."""
    name, values, body = loop.groups()
    return ''.join(f'{name}={value}\n{body}' for value in values.split())
