"""What holds for every test: shapes in signatures are checked, and no test fails because the machine is slow.

Jaxtyping's hook, with beartype behind it, must be in place before the package is imported.
"""

import os

from hypothesis import settings
from jaxtyping import install_import_hook

os.environ.setdefault("PREDGEN_BACKBONE", "builtin:nano")  # where a test names none: small and always there
install_import_hook("predgen", "beartype.beartype")
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
