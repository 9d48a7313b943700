"""CUDA graphs of what a step does: recorded once for a shape, then launched."""

PROGRAMS = 16  # graphs that are kept


class Graphs:
    """Work that is the same whenever its key is.

    The first time it is done directly: kernels are compiled, and memory is allocated.  The second time it is recorded,
    and from then on launched.  A graph reads and writes where the recorded work did, so when the arena has replaced a
    block, graphs that were made before it are void.

    still   whether work of one key is the same every time; else it is always done directly
    """

    def __init__(self, device, arena, still):
        self.device, self.arena, self.still = device, arena, still
        self.forget()

    def forget(self):
        """What was recorded is void."""
        self.met, self.programs = set(), {}

    def run(self, key, work, cut):
        """work(cut), in parts that end with cut(*arguments), which is called when a part has been given to the stream.
        """
        if not self.still or key not in self.met:
            self.met.add(key)
            return work(cut)
        for launch, arguments in self.program(key, work):
            launch()
            cut(*arguments)

    def program(self, key, work):
        """[(graph of a part, arguments of cut)]."""
        generation, parts = self.programs.get(key, (None, None))
        if generation != self.arena.generation:
            if len(self.programs) == PROGRAMS:
                self.forget()
                self.met.add(key)
            parts = self.record(work)
            self.programs[key] = self.arena.generation, parts
        return parts

    def record(self, work):
        """The parts of `work`; nothing of it is done."""
        parts = []

        def cut(*arguments):
            parts.append((self.device.end_capture(), arguments))
            self.device.begin_capture()
        self.device.begin_capture()
        try:
            work(cut)
        finally:
            self.device.end_capture()  # behind the last cut there is nothing
        return parts
