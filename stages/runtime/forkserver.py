"""A process that has imported torch and forks a child for each job, so that jobs of a run do not import it again.

    python -m stages.runtime.forkserver dvc repro     has one for the jobs of a command; Snakemake starts one by itself

Jobs find its socket in their environment. ``python -m stages.attack ...`` sends its words, environment and standard
files there, waits, passes signals on and ends as the child ends; where there is no such process, or it cannot do the
job, it does the job itself. Both give the same bytes.

Not multiprocessing's own fork server, because a job is a command of a shell here, not a function of one Python program.
"""

import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from stages.runtime import cli, threads

FORKED = ("train", "evaluate", "attack", "transfer", "visualize", "report")  # stages that import torch
PRELOADED = (  # by all jobs but torch._dynamo, which torch's optimizers import
    "stages.data.batches",
    "stages.data.splits",
    "stages.models.attacking",
    "stages.models.embeddings",
    "stages.models.evaluation",
    "stages.models.frozen",
    "stages.models.training",
    "stages.models.transferring",
    "stages.runtime.provenance",
    "stages.runtime.resume",
    "faiss",
    "jsonschema",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "rich.progress",
    "sklearn.cluster",
    "sklearn.metrics",
    "torch._dynamo",
)
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LISTEN, HEADER = "--listen", 8  # bytes of a request's length
ALONE = "alone"  # in place of an exit status


def here() -> list[str]:
    """What a job and the process that forks it must have in common: environment, code and folder."""
    return [sys.prefix, str(Path(__file__).resolve()), os.getcwd()]


def lead_path() -> None:
    """Put this interpreter first on the path, since an engine's jobs run `python`: another one may lack the packages,
    or have other versions of them. A conda environment is activated on top."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@contextmanager
def serving() -> Iterator[None]:
    """Have a fork server for the commands that are started in the block.

    It ends with the block or with this process, however that ends. Nothing is started where one is there already, nor
    on systems other than Linux, whose libraries need not survive a fork.
    """
    if cli.FORKSERVER in os.environ or sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ca-tride-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(path)
            except OSError:  # a temporary folder with a name too long for a socket
                yield
                return
            listener.listen(128)
            number = listener.fileno()
            command = [sys.executable, "-m", "stages.runtime.forkserver", LISTEN, str(number)]
            # A session of its own, because Ctrl-C goes to whole process groups, and jobs get it passed on.
            server = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True)
        os.environ[cli.FORKSERVER] = path
        try:
            yield
        finally:
            del os.environ[cli.FORKSERVER]
            server.communicate()  # closes its standard input, at which it ends


def delegated(stage: str, words: list[str]) -> int | None:
    """Have the fork server do a job: its exit status, or None where it must be done by this process."""
    path = os.environ.get(cli.FORKSERVER)
    if not path or stage not in FORKED or "WORLD_SIZE" in os.environ:
        return None
    request = json.dumps([here(), stage, words, dict(os.environ)], ensure_ascii=True).encode()
    before = {number: signal.getsignal(number) for number in PASSED_ON}
    child = 0
    waiting: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            if child:
                os.kill(child, number)
            else:
                waiting.append(number)

    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            for heard in (number for number, handler in before.items() if handler != signal.SIG_IGN):
                signal.signal(heard, pass_on)
            socket.send_fds(connection, [len(request).to_bytes(HEADER, "big")], [0, 1, 2])
            connection.sendall(request)
            with connection.makefile("r") as told:
                child = int(told.readline() or 0)
                for number in waiting:
                    pass_on(number, None)
                status = told.readline().strip() if child else ALONE
        except OSError:
            status = "" if child else ALONE
        finally:
            for heard, handler in before.items():
                signal.signal(heard, handler)
    if status == ALONE:
        for number in waiting if not child else ():
            signal.raise_signal(number)
        return None
    if not status:  # the child was killed: end in the same way, so that the engine sees it
        os.kill(os.getpid(), signal.SIGKILL)
    return int(status)


def serve(listener: socket.socket) -> None:
    """Import what jobs need, then fork a child for each request, until standard input ends."""
    # A fork keeps the thread that calls it and no other, so there must be no other: of BLAS, OpenMP, Arrow's jemalloc.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    threads.limit(1)
    threads.load(*PRELOADED)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                try:
                    listener.close()
                    _child(connection)
                finally:
                    os._exit(1)  # never back into this loop
    shutil.rmtree(os.path.dirname(listener.getsockname()), ignore_errors=True)
    listener.close()
    with suppress(ChildProcessError):
        while True:  # jobs go on after a run that was killed, as they do without this process
            os.wait()


def _reap(number: int, frame: object) -> None:
    """Take note of ended children, so that their time counts as this process's and none stays as a zombie."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child(connection: socket.socket) -> NoReturn:
    """Do one job in a forked process, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        head, files, _, _ = socket.recv_fds(connection, HEADER, 3)
        with connection.makefile("rb") as stream:
            place, stage, words, environment = json.loads(stream.read(int.from_bytes(head, "big")))
        if place != here() or len(files) < 3:
            os._exit(0)
    except (OSError, ValueError):  # the sender is gone
        os._exit(0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment, **{threads.LOADED_WITH: "1"})
    del os.environ[cli.FORKSERVER]
    connection.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    main = importlib.import_module(f"stages.{stage}").main
    sys.argv = [f"stages/{stage}.py", *words]
    cli.process(main, lambda status: connection.sendall(f"{status}\n".encode()))


def _end_with(connection: socket.socket) -> None:
    """Kill this process when the one that waits for it is gone: killed, as only then it says no more."""
    with suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def main(words: list[str]) -> int:
    """Serve, or run a command with a fork server for its jobs; the command's exit status."""
    if words[:1] == [LISTEN]:
        serve(socket.socket(fileno=int(words[1])))
        return 0
    lead_path()
    with serving():
        return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
