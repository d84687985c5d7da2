"""OpenTelemetry's metrics of requests to models, by its semantic conventions for generative AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .otel_attributes import ERROR_TYPE, RESPONSE_MODEL, TOKEN_TYPE, Attributes

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

DURATION: Final = "gen_ai.client.operation.duration"
TOKENS: Final = "gen_ai.client.token.usage"
FIRST_CHUNK_SECONDS: Final = "gen_ai.client.operation.time_to_first_chunk"

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_COUNTS: Final = tuple(4**power for power in range(14))


class LmInstruments:
    """The three histograms.

    Args:
        provider: makes the meter; None: the global one, whenever it is set.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        from opentelemetry import metrics  # noqa: PLC0415 - an extra

        meter = (provider or metrics.get_meter_provider()).get_meter("dspex")
        self._duration = meter.create_histogram(
            DURATION, "s", "GenAI operation duration.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tokens = meter.create_histogram(
            TOKENS,
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_COUNTS,
        )
        self._first_chunk = meter.create_histogram(
            FIRST_CHUNK_SECONDS,
            "s",
            "Time to receive the first chunk, measured from when the client issues the generation request.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def first_chunk(self, seconds: float, attributes: Attributes) -> None:
        """The first chunk of a stream came."""
        self._first_chunk.record(seconds, attributes)

    def ended(
        self, measured: Mapping[str, Any], metadata: Mapping[str, Any], attributes: Attributes, error: str | None
    ) -> None:
        """A request has ended. Tokens that the provider did not count are not reported.

        Args:
            measured: the measurements of its event.
            metadata: those of its event.
            attributes: of the request.
            error: the code of its error, or None.
        """
        if (model := metadata.get("response_model")) is not None:
            attributes = {**attributes, RESPONSE_MODEL: model}
        if (seconds := measured.get("duration")) is not None:
            self._duration.record(seconds, attributes if error is None else {**attributes, ERROR_TYPE: error})
        if metadata.get("usage_source") != "provider":
            return
        for kind in ("input", "output"):
            if (count := measured.get(f"{kind}_tokens")) is not None:
                self._tokens.record(count, {**attributes, TOKEN_TYPE: kind})
