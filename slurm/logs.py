"""What a run printed, over all its attempts, and what its last job printed as errors around them."""

import sys
import time

from slurm.status import command, parser_of, submitted
from xinggan.command import run_command

ASKED_EVERY_S = 10.0  # how often --follow asks whether the job still is in the queue


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where there is nothing printed yet, 2 for a name that is not accepted."""
    parser = parser_of("logs", __doc__)
    parser.add_argument("name", metavar="RUN", help="a run's name, a pattern, or the beginning of its hash")
    parser.add_argument("--lines", type=int, default=0, metavar="N", help="only the last N")
    parser.add_argument("--follow", action="store_true", help="go on printing until the run's job has ended")
    options = parser.parse_args(arguments)
    from slurm.states import jobs_of, states_of

    runs_folder, name, follow = options.runs, options.name, options.follow
    known, (run, *others) = submitted(runs_folder, [name])
    if others:
        raise ValueError(f"{name}: fits {len(others) + 1} runs: {', '.join([run, *others[:5]])}. Say more of it")
    (state,) = states_of(runs_folder, [run], known, [])
    job = state.row.get("job") or (state.attempts[-1]["job"] if state.attempts else "")
    log, errors = runs_folder / run / "slurm.log", state.submission.folder / f"{job}_0_log.err"  # type: ignore
    texts = [file.read_text(errors="replace") for file in (log, errors) if file.exists() and file.stat().st_size]
    for text in texts:
        print("\n".join(text.splitlines()[-options.lines :]), flush=True)
    if not texts and not follow:
        print(f"{run}: nothing printed yet (neither {log} nor {errors} is there)", file=sys.stderr)
        return 1
    position, asked = log.stat().st_size if log.exists() else 0, 0.0
    while follow:
        if time.monotonic() - asked > ASKED_EVERY_S:
            follow, asked = states_of(runs_folder, [run], known, jobs_of(known))[0].job is not None, time.monotonic()
        text = log.read_bytes()[position:] if log.exists() else b""
        print(text.decode(errors="replace"), end="", flush=True)
        position += len(text)
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    run_command(main)
