"""Names of weights that do not fit a network: the first of them, and what they say of where the file comes from."""

import re
from collections import Counter
from collections.abc import Collection

SHOWN = 3  # names, before "and so many more"
WRAPPERS = {"module": "torch.nn.DataParallel", "_orig_mod": "torch.compile"}  # they add a level to names
HOLDERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "ema",
)  # of weights in a file
TOLD = re.compile(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)")  # by torch.nn.Module.load_state_dict
MISSIZED = re.compile(
    r"size mismatch for (\S+): copying a param with shape (.*?) from checkpoint, the shape in .* is (.*)"
)


def told(error: BaseException) -> str:
    """What torch says of a state dict that does not fit, made short; "" where the error is about something else.

    torch lists every name, thousands of them for a large network, over many lines.
    """
    text = str(error)
    found = {kind: re.findall(r'"([^"]*)"', names) for kind, names in TOLD.findall(text)}
    if found:
        return misfit(found.get("Missing", []), found.get("Unexpected", []))
    sizes = MISSIZED.findall(text)
    if not sizes:
        return ""
    name, of_file, of_network = (part.removeprefix("torch.Size(").rstrip(".").rstrip(")") for part in sizes[0])
    return f"{name} has shape {of_file} in the file and {of_network} in the network{_more(len(sizes), 1)}"


def misfit(missing: Collection[str], unexpected: Collection[str]) -> str:
    """Name the first weights that a network wants and a file lacks, and the other way round, with a hint."""
    parts = [f"missing {listed(missing)}"] if missing else []
    parts += [f"unexpected {listed(unexpected)}"] if unexpected else []
    return "; ".join([*parts, *filter(None, [hint(missing, unexpected)])])


def listed(names: Collection[str]) -> str:
    """The first of some names, and how many there are."""
    return ", ".join(name[:100] for name in list(names)[:SHOWN]) + _more(len(names), SHOWN)


def _more(count: int, shown: int) -> str:
    return f" and {count - shown} more" if count > shown else ""


def hint(missing: Collection[str], unexpected: Collection[str]) -> str:
    """What would make the names fit: a level taken away or added, or the weights taken out of what holds them."""
    holder = next((name for name in HOLDERS if name in unexpected), None)
    if holder:
        lightning = " of Lightning" if "pytorch-lightning_version" in unexpected else ""
        return f'the file is a training checkpoint{lightning}: load its ["{holder}"]'
    if prefix := added(unexpected, missing):
        return f"{origin(prefix)}: load {{name.removeprefix({prefix!r}): value for name, value in state.items()}}"
    if prefix := added(missing, unexpected):
        return f"the network's own names begin with {prefix!r} ({origin(prefix)}): load into what it wraps"
    for level in WRAPPERS:
        if any(f".{level}." in name and name.replace(f"{level}.", "") in missing for name in unexpected):
            return f"{level} was added by {WRAPPERS[level]}: load {{name.replace('{level}.', ''): value ...}}"
    return ""


def added(longer: Collection[str], shorter: Collection[str]) -> str:
    """The prefix, ending in a dot, that most often turns one of the ``shorter`` names into one of the ``longer``."""
    known, found = set(shorter), Counter[str]()
    for name in longer:
        for dot in re.finditer(r"\.", name):
            if name[dot.end() :] in known:
                found[name[: dot.end()]] += 1
                break
    return found.most_common(1)[0][0] if found else ""


def origin(prefix: str) -> str:
    """Who adds such a prefix to names."""
    makers = [WRAPPERS[part] for part in prefix.split(".") if part in WRAPPERS]
    others = [part for part in prefix.split(".") if part and part not in WRAPPERS]
    makers += [f"a module that holds the network as .{'.'.join(others)}, as in Lightning"] if others else []
    return f"{prefix!r} was added by {' and '.join(makers)}"


def wrapped(names: Collection[str]) -> str:
    """What a level that all names share says of their origin; "" where they share none that is known."""
    first = {name.partition(".")[0] for name in names}
    level = first.pop() if len(first) == 1 else ""
    known = level in WRAPPERS or level in HOLDERS
    return origin(f"{level}.") if known else ""
