# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Progress on a terminal or in a log, and commands run under its eyes."""
import collections
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

TAIL_LINES = 12
QUIET_SECONDS = 20  # how often a log, which cannot be redrawn, gets a line
PIP_PROGRESS = re.compile(r'^Progress (\d+) of (\d+)')
NINJA_PROGRESS = re.compile(r'\[(\d+)/(\d+)\]')
PIP_EVENT = re.compile(
    r'^\s*(Collecting|Downloading|Using cached|Processing|Building wheel|'
    r'Installing collected packages|Attempting uninstall|Uninstalling|'
    r'Preparing metadata)\b')


def duration(seconds):
    """Format seconds as ``m:ss``."""
    return '{}:{:02d}'.format(*divmod(int(seconds), 60))


class CommandFailed(Exception):
    """A command ended with an error.

    Args:
        tail (list[str]): The last lines that it printed.
        output (str): All that it printed, shortened at its start.
    """

    def __init__(self, tail, output):
        super().__init__(tail[-1] if tail else 'no output')
        self.tail = tail
        self.output = output


class Console:
    """Print numbered steps, one status line each, and write the log.

    Args:
        log_path (pathlib.Path): Gets every line of every command.
    """

    def __init__(self, log_path):
        self.log_path = log_path
        self.redraw = sys.stdout.isatty()
        self.step_start = time.monotonic()
        self._status = ''
        self._status_length = 0
        self._last_status = 0.0

    def say(self, text=''):
        """Print a line that stays."""
        self._clear()
        print(text, flush=True)

    def step(self, number, total, title, hint=''):
        """Announce a step."""
        self.step_start = self._last_status = time.monotonic()
        self.say('[{}/{}] {}{}'.format(number, total, title, hint
                                       and ' ({})'.format(hint)))

    def done(self):
        """Close a step with the time that it took."""
        took = time.monotonic() - self.step_start
        self.say('      done in {}'.format(duration(took)))

    def status(self, text):
        """Show what is going on: redrawn, or now and then in a log."""
        now = time.monotonic()
        text = '      {}  [{}]'.format(text, duration(now - self.step_start))
        if self.redraw:
            if text == self._status:
                return
            self._status = text
            text = text[:max(shutil.get_terminal_size().columns - 1, 20)]
            padding = ' ' * max(self._status_length - len(text), 0)
            print('\r' + text + padding, end='', flush=True)
            self._status_length = len(text)
        elif now - self._last_status >= QUIET_SECONDS:
            print(text, flush=True)
            self._last_status = now

    def _clear(self):
        if self._status_length:
            print('\r' + ' ' * self._status_length + '\r', end='')
            self._status_length = 0

    def run(self, command, env, cwd=None):
        """Run a command, show its progress and log what it prints.

        Args:
            command (list[str]): The command.
            env (dict): Its environment.
            cwd (str | None): Where it runs. Defaults to None.

        Returns:
            str: What it printed, shortened at its start.

        Raises:
            CommandFailed: If it does not exit with 0.
        """
        with open(self.log_path, 'a', encoding='utf-8') as log:
            log.write('\n{}$ {}\n'.format(
                time.strftime('%F %T '), ' '.join(map(str, command))))
            process = subprocess.Popen([str(part) for part in command],
                                       stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT,
                                       env=env,
                                       cwd=cwd,
                                       universal_newlines=True,
                                       errors='replace',
                                       start_new_session=True)
            try:
                output = self._follow(process, log)
            except BaseException:
                stop(process)
                raise
        tail = [line for line in output if line.strip()][-TAIL_LINES:]
        if process.returncode:
            raise CommandFailed(tail, '\n'.join(output))
        return '\n'.join(output)

    def _follow(self, process, log):
        """Read a command to its end; the status line never stands still."""
        lines = queue.Queue()
        threading.Thread(
            target=read_lines, args=(process.stdout, lines),
            daemon=True).start()
        output = collections.deque(maxlen=2000)
        doing = 'working'
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                self.status(doing)
                continue
            if line is None:
                break
            is_progress, doing = describe(line, doing)
            if not is_progress:
                log.write(line + '\n')
                log.flush()
                output.append(line)
            self.status(doing)
        process.wait()
        return output


def read_lines(stream, lines):
    """Move lines from a pipe to a queue; None is the end."""
    for line in stream:
        lines.put(line.rstrip())
    lines.put(None)


def describe(line, doing):
    """Turn a line of pip's or ninja's output into what to show.

    Args:
        line (str): The line.
        doing (str): What is shown so far.

    Returns:
        tuple[bool, str]: Whether the line is nothing but progress, and what
        to show from now on.
    """
    what = doing.split('  ')[0]
    match = PIP_PROGRESS.match(line.strip())
    if match:
        have, total = (int(size) / 1e6 for size in match.groups())
        filled = int(20 * have / total) if total else 0
        return True, '{}  {}{} {:.0f}/{:.0f} MB'.format(
            what, '#' * filled, '.' * (20 - filled), have, total)
    match = NINJA_PROGRESS.search(line)
    if match:
        return False, 'compiling  {} of {} files'.format(*match.groups())
    if PIP_EVENT.match(line):
        words = line.split()
        if words[0] in ('Processing', 'Using') and '/' in words[-1]:
            words[-1] = words[-1].rsplit('/', 1)[-1]
        return False, ' '.join(words)[:60]
    return False, doing


def stop(process):
    """End a command and what it started: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return
