"""How much memory this process took at most, and how much is left; None where the system does not say."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def peak_memory() -> int | None:
    """[bytes] the most main memory this process ever held."""
    if sys.platform == "win32":
        return _windows_peak()
    # Not getrusage on Linux: its figure includes what the parent held before it started this program.
    kib = _kib_line(Path("/proc/self/status"), "VmHWM")
    if kib is not None:
        return kib
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_device_memory() -> int | None:
    """[bytes] the most that tensors took on any one CUDA device; None where none was used."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))


def available_memory() -> int | None:
    """[bytes] what can still be taken without swapping, within the limit of a container if any."""
    if sys.platform == "win32":
        return _windows_available()
    if sys.platform == "darwin":
        return _darwin_available()
    known = [
        n for n in (_kib_line(Path("/proc/meminfo"), "MemAvailable"), _cgroup_room(_CGROUP)) if n is not None
    ]
    return min(known, default=None)


def _kib_line(path: Path, key: str) -> int | None:
    """[bytes] the value of a line such as `VmHWM:    1234 kB`."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", _text(path), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cgroup_room(root: Path) -> int | None:
    """[bytes] between a container's use and its limit; file pages that can be dropped are no use."""
    for limit, used, droppable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _text(root / limit).strip(), _text(root / used).strip()
        if most.isdigit() and now.isdigit():
            stat = _text((root / used).with_name("memory.stat"))
            found = re.search(rf"^{droppable} (\d+)$", stat, re.MULTILINE)
            return max(0, int(most) - int(now) + (int(found[1]) if found else 0))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _darwin_available() -> int | None:
    try:
        said = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return _free_pages(said)


def _free_pages(vm_stat: str) -> int | None:
    """[bytes] pages that are free or can be dropped, from what macOS' vm_stat prints."""
    size = re.search(r"page size of (\d+) bytes", vm_stat)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", vm_stat, re.MULTILINE)
    return int(size[1]) * sum(map(int, pages)) if size and pages else None


if sys.platform == "win32":

    def _windows_peak() -> int | None:
        class Counters(ctypes.Structure):
            """PROCESS_MEMORY_COUNTERS of psapi.h."""

            _fields_ = (
                ("cb", ctypes.c_ulong),
                ("page_faults", ctypes.c_ulong),
                ("peak_working_set", ctypes.c_size_t),
                ("others", ctypes.c_size_t * 7),
            )

        counters = Counters(cb=ctypes.sizeof(Counters))
        process = ctypes.c_void_p(-1)  # GetCurrentProcess() is this constant.
        asked = ctypes.windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
        return counters.peak_working_set if asked else None

    def _windows_available() -> int | None:
        class Status(ctypes.Structure):
            """MEMORYSTATUSEX of sysinfoapi.h."""

            _fields_ = (
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                ("total", ctypes.c_uint64),
                ("available", ctypes.c_uint64),
                ("others", ctypes.c_uint64 * 5),
            )

        status = Status(length=ctypes.sizeof(Status))
        asked = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return status.available if asked else None
