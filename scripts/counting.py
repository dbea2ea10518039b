"""What a call costs in things that can be counted: instructions and allocations, by Valgrind, the same in every run."""

import pathlib
import re
import shutil
import tempfile

import debian
from driving import drive

# A warm call is the difference between many calls and few, over their number. Start and first call stay out: whether the
# function opens one connection then or two is a matter of luck.
FEW, MANY = 50, 250
# Where the stack lies decides how bytes are copied, and so do the lengths of variables: half a per cent.
PATH = "/usr/local/bin:/usr/bin:/bin"


class Valgrind:
    """Valgrind: this machine's, else Debian's."""

    def __init__(self):
        self.command, self.variables = shutil.which("valgrind"), {}
        if not self.command:
            # The program itself: the one by the name is a script that looks for it under /.
            program, library = "usr/bin/valgrind.bin", "usr/libexec/valgrind"
            root = debian.unpacked("valgrind", ["valgrind"], only=[program, library])
            self.command, self.variables = root / program, {"VALGRIND_LIB": str(root / library)}
            if not self.command.exists():
                raise debian.Unavailable("the archive's valgrind lies elsewhere")

    def count(self, driver, own, few=FEW, many=MANY):
        """Of one warm call."""
        less, more = self.totals(driver, own, few), self.totals(driver, own, many)
        return {key: (more[key] - less[key]) / (many - few) for key in more}

    def totals(self, driver, own, calls):
        """Of a process that starts, and answers a first call and as many warm ones."""
        allocated, allocations = self.dhat(driver, own, calls)
        instructions = self.callgrind(driver, own, calls)
        return {"instructions": instructions, "allocations": allocations, "allocated bytes": allocated}

    def callgrind(self, driver, own, calls):
        told = self.run(driver, own, calls, "callgrind", "--callgrind-out-file")
        return int(re.search(r"^(?:summary|totals): (\d+)", told, re.MULTILINE)[1])

    def dhat(self, driver, own, calls):
        # It needs no symbols for the totals, which it logs.
        told = self.run(driver, own, calls, "dhat", "--log-file", "--dhat-out-file=/dev/null")
        total, blocks = re.search(r"Total: +([\d,]+) bytes in ([\d,]+) blocks", told).groups()
        return int(total.replace(",", "")), int(blocks.replace(",", ""))

    def run(self, driver, own, calls, tool, output, *options):
        """What the tool writes to the file that the option `output` names."""
        with tempfile.TemporaryDirectory(prefix="valgrind-") as folder:
            out = pathlib.Path(folder) / "out"
            words = [self.command, f"--tool={tool}", f"{output}={out}", *options]
            own = {**own, "variables": {"PATH": PATH, **own["variables"], **self.variables}}
            drive(driver, [own], 1, calls, *(f"--under={word}" for word in words))
            return out.read_text()
