"""`kill -9` at random during a training that saves a checkpoint at every step.

Usage: python tests/faults/kill_at_random.py [kills] [seed]. After each kill the checkpoint is whole or not there yet,
the next process goes on from it, and in the end the model has the bits of a run that nobody has disturbed. Temporaries
may stay only where a kill fell between the two calls that give a new file its name, and the next save removes them once
they are old. Exit status 1 where anything of that is not so.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from normcore.archive import read_archive

STEPS = 400
RUN = f"""
import sys
from pathlib import Path
import numpy as np
from normcore import MLP, Trainer


class Save:
    def on_step_end(self, trainer, logs):
        trainer.save_checkpoint(path)


path, out = Path(sys.argv[1]), sys.argv[2]
X = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
if path.exists():
    trainer = Trainer.resume(path, callbacks=[Save()])
else:
    model = MLP([20, 200, 100, 2], norm="batch", dropout=0.2)
    trainer = Trainer(model, epochs={STEPS // 40}, batch_size=10, callbacks=[Save()])
trainer.fit(X, y)
trainer.model.save(out)
"""


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as folder:
        path, out, expected = (Path(folder) / name for name in ("checkpoint", "model", "expected"))
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", RUN, Path(folder) / "other", expected], check=True)
        whole = time.monotonic() - start
        done, saved = 0, 0
        while not out.exists():
            process = subprocess.Popen([sys.executable, "-c", RUN, path, out])
            try:
                # Once it has begun to save, at any moment of what a few steps take.
                before = path.stat().st_mtime_ns if path.exists() else 0
                while done < kills and process.poll() is None:
                    if path.exists() and path.stat().st_mtime_ns != before:
                        time.sleep(rng.random() * min(0.5, whole / kills))
                        process.kill()
                        done += 1
                        break
                    time.sleep(0.001)
            finally:
                code = process.wait()
            if code not in (0, -9):
                print(f"after {done} kills: exit status {code}")
                return 1
            if path.exists():
                read_archive(path, "checkpoint")
                saved += 1
        left = [entry for entry in Path(folder).iterdir() if entry.name.startswith(".normcore-")]
        for entry in left:
            os.utime(entry, times=(0, 0))
        trainer_save = "from normcore import MLP; import sys; MLP([2, 2]).save(sys.argv[1])"
        subprocess.run([sys.executable, "-c", trainer_save, Path(folder) / "last"], check=True)
        still = [entry.name for entry in left if entry.exists()]
        same = out.read_bytes() == expected.read_bytes()
        print(
            f"{done} kills, {saved} whole checkpoints, {len(left)} temporaries of which {len(still)} stay, "
            f"{'the same' if same else 'OTHER'} bits"
        )
        return 0 if same and not still and done == kills else 1


if __name__ == "__main__":
    sys.exit(main())
