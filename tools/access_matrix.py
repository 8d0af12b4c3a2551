"""Print the table of roles and permissions as docs/security.md has it: `python tools/access_matrix.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from medical.access import POLICY
from medical.identity.permissions import Role


def matrix() -> str:
    """One row for each permission, in their order, one column for each role."""
    permissions = sorted({str(permission) for allowed in POLICY.values() for permission in allowed})
    lines = ["| permission | " + " | ".join(Role) + " |", "| --- |" + " :-: |" * len(Role)]
    for permission in permissions:
        marks = ["●" if permission in {str(one) for one in POLICY[role]} else "" for role in Role]
        lines.append(f"| `{permission}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(matrix())
