"""The process that reads a MATLAB file for ``stages.data.matlab``: what the file holds goes to stdout as JSON.

It imports nothing of the project, so that it runs wherever the project's code lies.
"""

import json
import resource
import sys
from typing import Any

MEMORY = 4 << 30  # bytes of address space; scipy and its libraries take a fourth of it
NOT_MATLAB = 3  # exit status if it is the file that cannot be read


def parse(path: str) -> dict[str, Any]:
    """Names of classes, and (path, class id) of each image; None where absent. Raises anything on damaged files."""
    import numpy as np
    from scipy.io import loadmat

    contents = loadmat(path, squeeze_me=True, variable_names=["class_names", "annotations"])
    names = contents.get("class_names")
    records = contents.get("annotations")
    fields = getattr(getattr(records, "dtype", None), "names", None) or ()
    place = next((field for field in ("relative_im_path", "fname") if field in fields), None)
    listed = records is not None and place is not None and "class" in fields
    return {
        "class_names": None if names is None else [str(one) for one in np.atleast_1d(names)],
        "images": [(str(one[place]), int(one["class"])) for one in np.atleast_1d(records)] if listed else None,
    }


if __name__ == "__main__":
    import scipy.io  # noqa: F401  outside the try: a broken installation is not the file's fault

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        print(json.dumps(parse(sys.argv[1])))
    except Exception as error:  # scipy raises anything from ValueError to zlib.error
        if getattr(error, "errno", None) is not None:  # the disk's word, not the parser's
            raise
        print(str(error) or type(error).__name__, file=sys.stderr)
        sys.exit(NOT_MATLAB)
