"""One measurement of one contender in a process of its own: `python worker.py JOB RESULT`, both files of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the job and write its result; a traceback on stderr and exit code 1 if it fails."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    if job["measure"] in ("fit", "batches", "checkpoints"):
        import fitting

        given = {key: value for key, value in job.items() if key not in ("measure", "contender", "folder")}
        result = getattr(fitting, job["measure"])(Path(job["folder"]), **given)
    else:
        from measures import measure

        result = measure(job)
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
