"""The smallest program found that still shows a fault, and its death."""

from tests.property.programs import Node, is_sound, smaller
from tests.property.trial import Trial, every_point, run


async def shrunk(failed: Trial, *, tries: int = 400) -> Trial:
    """Takes parts away for as long as some death still goes wrong."""
    best = failed
    while tries > 0:
        for program in smaller(best.program):
            tries -= 1
            found = await _first_fault(program) if is_sound(program) else None
            if found is not None:
                best = found
                break
            if tries <= 0:
                break
        else:
            break
    return best


async def _first_fault(program: Node) -> Trial | None:
    undisturbed = Trial(program)
    await run([undisturbed])
    trials = [undisturbed, *every_point(undisturbed)]
    await run(trials[1:])
    return next((trial for trial in trials if trial.wrong), None)
