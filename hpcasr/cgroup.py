"""What the control groups of this process, such as SLURM's of a job or a container's, allow it."""

import math
import os
import pathlib

GROUP, GROUPS = '/proc/self/cgroup', '/sys/fs/cgroup'  # that of this process; the tree of all


def limit():
    """Bytes of memory that the control group of this process, and all around it, may use; infinite without."""
    return min((bound(path) for path in limits()), default=math.inf)


def limits():
    """Files that tell a limit: SLURM's is that of the job, some levels below the root."""
    for line in open(GROUP).read().splitlines() if os.path.exists(GROUP) else ():
        _, kind, group = line.split(':', 2)
        root, name = {'': ('', 'memory.max'), 'memory': ('memory', 'memory.limit_in_bytes')}.get(kind, (None, ''))
        if root is not None:
            inside = pathlib.PurePath(group.lstrip('/'))
            yield from (os.path.join(GROUPS, root, folder, name) for folder in (inside, *inside.parents))


def bound(path):
    try:
        with open(path) as file:
            text = file.read().strip()
    except OSError:  # the root has none; a container does not see what is around it
        return math.inf
    return int(text) if text.isdigit() else math.inf
