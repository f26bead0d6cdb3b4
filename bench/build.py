#!/usr/bin/env python3
"""Says what building costs, of a commit and of this tree: script/bench build [COMMIT] [options]

  clean    a debug build from nothing, dependencies included: the median of --rounds; at most 5 % more than before
  module   an edit in the module `catalog` to the end of its tests: at most 12 s
  core     an edit of the core's transactions to the end of their tests: at most 20 s

COMMIT is the one that bench/instructions.json was recorded from, unless it is given; `none` measures this tree alone.
Both are built in copies, which are removed in the end; this tree is not touched, and its changes are in its copy. Each
figure is the time on the clock and, in brackets, that of the processors. A busy machine changes the first more than the
second, so that a bound in seconds is judged by the clock, and the growth of the clean build by the processors.

  --only NAME    clean, module or core; may be given several times
  --rounds N     of each figure, 3 by default
  --json         for a program
Exit 1: a bound was missed.
"""
import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
GROWTH = 1.05

# What is edited, under its names of now and of before, the tests that show the edit, and within how many seconds.
EDITS = {
    "module": (["crates/modules/src/catalog/mod.rs"], ["api::catalog::", "catalog::"], 12),
    "core": (["crates/core/src/db/tx/mod.rs", "crates/core/src/db/transaction.rs"],
             ["db::transactions::", "transactions::"], 20),
}


def run(command, folder, environment=None):
    """Seconds on the clock, and of the processors, that a command and all that it waits for take."""
    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    cpu, begun = spent(), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)} failed in {folder}:\n{done.stdout[-4000:]}")
    return time.monotonic() - begun, spent() - cpu


class Copy:
    """A copy of the repository, with a target folder of its own."""

    def __init__(self, folder, commit):
        self.folder = folder
        run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(folder)], ROOT)
        run(["git", "checkout", "--quiet", commit or "HEAD"], folder)
        if commit is None:
            self.take_changes()
        self.environment = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
        run(["cargo", "fetch", "--quiet", "--locked"], folder)

    def take_changes(self):
        """What is changed in the tree and not committed, its new files included."""
        listed = ["git", "ls-files", "-z", "--modified", "--others", "--deleted", "--exclude-standard"]
        for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
            source, target = ROOT / name, self.folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
            elif not source.exists():
                target.unlink(missing_ok=True)

    def cargo(self, *words):
        return run(["cargo", *words], self.folder, self.environment)

    def clean(self):
        shutil.rmtree(self.folder / "target", ignore_errors=True)
        return self.cargo("build", "--quiet", "--workspace", "--bins")

    def warm(self):
        """Builds everything that a test needs, so that later builds are those of an edit."""
        self.cargo("build", "--quiet", "--workspace", "--bins")
        self.cargo("nextest", "run", "--package", "erp-backend", "--test", "it", "--no-run")

    def test(self, tests):
        """What script/test does for one name."""
        built = self.cargo("build", "--quiet", "--workspace", "--bins")
        tested = self.cargo("nextest", "run", "--package", "erp-backend", "--test", "it", "--no-run")
        with_postgres = str(self.folder / "target/debug/with-postgres")
        wanted = " | ".join(f"test(/^{name}/)" for name in tests)
        ran = run([with_postgres, "--", "cargo", "nextest", "run", "--package", "erp-backend", "--test", "it",
                   "-E", wanted], self.folder, self.environment)
        return [sum(part) for part in zip(built, tested, ran)]

    def edit(self, names, tests, number):
        """Changes a function of the file, tests, and puts the file back as it was."""
        file = next(path for path in map(self.folder.joinpath, names) if path.exists())
        before = file.read_text()
        function = re.search(r"^ *(pub(\([^)]*\))? )?fn [^;{]*\{\n", before, re.M)
        try:
            file.write_text(f"{before[:function.end()]}    let _edited = {number};\n{before[function.end():]}")
            return self.test(tests)
        finally:
            file.write_text(before)


def measure(copy, only, rounds):
    """Of each figure the median, by the clock and by the processors."""
    found = {}
    if "clean" in only:
        found["clean"] = [copy.clean() for _ in range(rounds)]
    edits = [name for name in EDITS if name in only]
    if edits:
        copy.warm()
    for name in edits:
        files, tests, _ = EDITS[name]
        found[name] = [copy.edit(files, tests, number) for number in range(rounds)]
    return {name: [statistics.median(part) for part in zip(*values)] for name, values in found.items()}


def judge(name, before, now):
    """The bound in words, and whether it is kept; None where there is nothing to compare with."""
    if name != "clean":
        return f"≤ {EDITS[name][2]} s", now[0] <= EDITS[name][2]
    return "≤ +5 %", now[1] <= before[1] * GROWTH if before else None


def main():
    arguments = argparse.ArgumentParser(prog="script/bench build", usage=argparse.SUPPRESS, add_help=False)
    arguments.add_argument("commit", nargs="?")
    arguments.add_argument("--only", action="append", choices=["clean", *EDITS])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--help", "-h", action="store_true")
    given = arguments.parse_args()
    if given.help:
        print(__doc__, end="")
        return True
    recorded = json.loads((ROOT / "bench/instructions.json").read_text())["commit"]
    commit = given.commit or recorded
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the copies are removed
    only = given.only or ["clean", *EDITS]
    with tempfile.TemporaryDirectory(prefix="erp-build-") as folder:
        before = {}
        if commit != "none":
            before = measure(Copy(pathlib.Path(folder) / "before", commit), only, given.rounds)
            shutil.rmtree(pathlib.Path(folder) / "before")
        now = measure(Copy(pathlib.Path(folder) / "now", None), only, given.rounds)
    rows = []
    for name, figures in now.items():
        bound, passed = judge(name, before.get(name), figures)
        rows.append({"measure": name, "before": before.get(name), "now": figures, "bound": bound, "passed": passed})
    if given.json:
        print(json.dumps({"before": commit, "rounds": given.rounds, "rows": rows}, indent=2))
    else:
        text = lambda pair: f"{pair[0]:.1f} s ({pair[1]:.1f})" if pair else "–"
        print(f"{'build':<8} {commit:>18} {'now':>18}")
        for row in rows:
            verdict = {True: "PASS", False: "FAIL", None: "–"}[row["passed"]]
            print(f"{row['measure']:<8} {text(row['before']):>18} {text(row['now']):>18}  {verdict} {row['bound']}")
    return all(row["passed"] is not False for row in rows)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
