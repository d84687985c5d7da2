"""Words that the prompts of all adapters share."""

from __future__ import annotations

from collections.abc import Iterable

from ..signatures.field import Field
from ..signatures.signature import Signature


def listed(fields: Iterable[Field]) -> str:
    """The fields, one a line: name, type, constraints, description."""
    return "\n".join(
        f"{number}. `{field.name}` ({field.label}){f': {field.description}' if field.description else ''}"
        for number, field in enumerate(fields, 1)
    )


def task(signature: Signature) -> str:
    """The signature's instructions; without any, "given these fields, produce those"."""
    if signature.instructions:
        return signature.instructions
    outputs = ", ".join(f"`{name}`" for name in signature.output_names)
    if not signature.inputs:
        return f"Produce the fields {outputs}."
    return f"Given the fields {', '.join(f'`{name}`' for name in signature.input_names)}, produce the fields {outputs}."
