"""Turn text of LLVM's into code of this machine, keep it on disk, and run it on several threads."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from thalweg.backends.loops import REGION, gather, scatter
from thalweg.backends.symbols import Untraceable

HELPERS = (b"__trunc", b"__extend", b"__gnu_")  # of compilers, for numbers that a processor does not know
_LOCK = threading.RLock()
OPTIONS = {"speed_level": 3, "loop_vectorization": True, "loop_interleaving": True}
_ADDRESSES: dict[str, int] = {}  # by text


def _compiler() -> tuple[Any, Any, Any, str]:
    """Return LLVM, the target machine, the engine that holds all code, and what names the machine."""
    with _LOCK:
        return _started()


@cache
def _started() -> tuple[Any, Any, Any, str]:
    import llvmlite
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    name = llvm.get_host_cpu_name()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    processor = f"{llvm.get_process_triple()} {name} {features}"
    return llvm, target, engine, f"{llvmlite.__version__} {llvm.llvm_version_info} {processor} {OPTIONS}"


@cache
def available() -> bool:
    """Tell whether code can be compiled here at all."""
    try:
        _compiler()
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def address_of(text: str, function: str = "kernel") -> int:
    """Return the address of the function that a text defines; compile it at most once on this machine."""
    if (known := _ADDRESSES.get(text)) is not None:
        return known
    with _LOCK:
        if text not in _ADDRESSES:
            _ADDRESSES[text] = _loaded(text, function)
        return _ADDRESSES[text]


def _loaded(text: str, function: str) -> int:
    llvm, target, engine, who = _compiler()
    key = hashlib.sha256(f"{who}\n{text}".encode()).hexdigest()
    name = f"thalweg_{key[:24]}"
    stored = _stored(key)
    if stored is None:
        stored = _compiled(text.replace(f"@{function}(", f"@{name}("), llvm, target)
        _store(key, stored)
    engine.add_object_file(llvm.ObjectFileRef.from_data(stored))
    engine.finalize_object()
    return int(engine.get_function_address(name))


def _compiled(text: str, llvm: Any, target: Any) -> bytes:
    announcement = threading.Timer(1.0, _announce)
    announcement.daemon = True
    announcement.start()
    try:
        module = llvm.parse_assembly(text)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=OPTIONS["speed_level"])
        options.loop_vectorization = OPTIONS["loop_vectorization"]
        options.loop_interleaving = OPTIONS["loop_interleaving"]
        builder = llvm.create_pass_builder(target, options)
        builder.getModulePassManager().run(module, builder)
        code: bytes = target.emit_object(module)
    except RuntimeError as error:
        raise Untraceable(f"A kernel must be compiled by LLVM; got: {error}.") from error
    finally:
        announcement.cancel()
    if any(helper in code for helper in HELPERS):  # LLVM would end the process on loading it
        raise Untraceable("A kernel must have a processor that converts its numbers; got another.")
    return code


@cache  # so that it is said once
def _announce() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("Thalweg compiles a step for this processor; the result is kept for next time.\n")


def folder() -> Path:
    """Return where compiled code is kept: THALWEG_CACHE, or the user's folder for caches."""
    if given := os.environ.get("THALWEG_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"


def _ours(path: Path) -> bool:
    """Tell whether nobody else can put code into a folder."""
    known = path.stat()
    return not hasattr(os, "getuid") or (known.st_uid == os.getuid() and not known.st_mode & 0o022)


def _stored(key: str) -> bytes | None:
    try:
        if not _ours(folder()):
            return None
        data = (folder() / key).read_bytes()
    except (OSError, RuntimeError):  # a user may have no home
        return None
    code, digest = data[32:], data[:32]
    return code if hashlib.sha256(code).digest() == digest else None


def _store(key: str, code: bytes) -> None:
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(folder()):
            return
        part = folder() / f"{key}.{os.getpid()}.{threading.get_ident()}"
        part.write_bytes(hashlib.sha256(code).digest() + code)
        part.replace(folder() / key)
    except (OSError, RuntimeError):
        pass  # compiled again next time


@cache
def reads_float16() -> bool:
    """Tell whether the processor converts float16 itself."""
    llvm = _compiler()[0]
    features = llvm.get_host_cpu_features()
    return bool(features.get("f16c") or features.get("fullfp16") or features.get("neon"))


@cache
def has_wide_vectors() -> bool:
    """Tell whether the processor computes on vectors of 64 bytes, and keeps 32 of them."""
    return bool(_compiler()[0].get_host_cpu_features().get("avx512f"))


@cache
def reader(kind: str) -> Any:
    """Return a function (places, count, out): read a number at each place; tell whether all are equal."""
    return _single(gather(kind), ctypes.c_int64)


@cache
def writer(kind: str) -> Any:
    """Return a function (places, count, numbers) that writes float64 to places of a type."""
    return _single(scatter(kind), None)


def _single(text: str, result: Any) -> Any:
    kind = ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    return kind(address_of(text))


# Threads.

_FORKED = False  # a child that was forked has none of its parent's threads


def _forked() -> None:
    global _LOCK, _FORKED
    _LOCK = threading.RLock()  # another thread may have held the old one
    _FORKED = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@cache
def _region() -> tuple[int, Any]:
    address = address_of(REGION, "region")
    return address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


@cache
def _openmp() -> Any:
    """Return the parallel region of the OpenMP that torch runs on: its threads are awake already."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function


def run(job: int, threads: int) -> None:
    """Work through a table of chunks, on several threads."""
    address, function = _region()
    if threads == 1 or _FORKED:
        function(job)
    elif (openmp := _openmp()) is not None:
        openmp(address, job, threads, 0)
    else:
        pool = _pool(threads - 1)
        others = [pool.submit(function, job) for _ in range(threads - 1)]
        function(job)
        for other in others:
            other.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="thalweg")
