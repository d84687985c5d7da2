"""Child specs: defaults, checks in OTP's words, the ways to write one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from thespian.actors import Actor

from dspex.runtime.child_spec import ChildSpec, as_child_spec, check_significance, child_spec
from dspex.runtime.errors import SpecError
from dspex.runtime.gen_server import GenServer


class Worker(GenServer):
    pass


def reason_of(make: Any, *args: Any, **kwargs: Any) -> Any:
    """The reason of the SpecError that a call raises."""
    with pytest.raises(SpecError) as caught:
        make(*args, **kwargs)
    return caught.value.reason


def test_defaults_are_those_of_otp() -> None:
    """SUP-01: permanent, worker, not significant; 5 s for workers, infinity for supervisors."""
    worker = ChildSpec("a", Worker)
    assert (worker.restart, worker.type, worker.significant) == ("permanent", "worker", False)
    assert worker.shutdown == 5.0
    assert ChildSpec("a", Worker, type="supervisor").shutdown == "infinity"
    assert (worker.name, worker.backoff, worker.placement) == (None, None, "local")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"restart": "prmanent"}, ("invalid_restart_type", "prmanent")),
        ({"shutdown": -10}, ("invalid_shutdown", -10)),
        ({"shutdown": "never"}, ("invalid_shutdown", "never")),
        ({"shutdown": True}, ("invalid_shutdown", True)),
        ({"shutdown": float("inf")}, ("invalid_shutdown", float("inf"))),
        ({"type": "wrker"}, ("invalid_child_type", "wrker")),
        ({"significant": "yes"}, ("invalid_significant", "yes")),
        ({"significant": 1}, ("invalid_significant", 1)),
        ({"start": "nonsense"}, ("invalid_mfa", "nonsense")),
        ({"start": dict}, ("invalid_mfa", dict)),
        ({"args": "abc"}, ("invalid_mfa", str)),
        ({"kwargs": [1]}, ("invalid_mfa", list)),
        ({"id": []}, ("invalid_id", [])),
        ({"name": ""}, ("invalid_name", "")),
        ({"backoff": 3}, ("invalid_backoff", 3)),
        ({"placement": "moon"}, ("invalid_placement", "moon")),
    ],
)
def test_bad_values_are_refused_in_otps_words(options: dict[str, Any], reason: Any) -> None:
    """SUP-02: each bad value is a SpecError at once, with OTP's term as its reason."""
    assert reason_of(ChildSpec, **{"id": "a", "start": Worker, **options}) == reason
    assert reason_of(ChildSpec.from_mapping, {"id": "a", "start": Worker, **options}) == reason


def test_a_misspelt_option_is_refused_with_the_nearest_one() -> None:
    """The constructor and child_spec() know their options, and say which one was meant."""
    misspelt: dict[str, Any] = {"restrat": "temporary"}
    makers: tuple[Any, ...] = (ChildSpec, child_spec)
    for make in makers:
        with pytest.raises(SpecError, match="did you mean 'restart'") as caught:
            make("a", Worker, **misspelt)
        assert caught.value.reason == ("unknown_option", "restrat")


def test_a_misspelt_value_is_refused_with_the_nearest_one() -> None:
    """A bad word names where it stood, what came and what was probably meant."""
    with pytest.raises(SpecError, match=r"restart: .*'prmanent'; did you mean 'permanent'"):
        ChildSpec("a", Worker, restart="prmanent")  # type: ignore[arg-type]


def test_milliseconds_are_not_taken_for_seconds() -> None:
    """A bare number over an hour is refused; a timedelta carries its unit."""
    assert reason_of(ChildSpec, "a", Worker, shutdown=5000) == ("invalid_shutdown", 5000)
    assert ChildSpec("a", Worker, shutdown=timedelta(hours=2)).shutdown == 7200.0
    assert ChildSpec("a", Worker, shutdown=3600).shutdown == 3600.0


def test_the_mapping_ignores_unknown_keys() -> None:
    """SUP-02: in OTP's map form unknown keys are ignored."""
    spec = ChildSpec.from_mapping({"id": "a", "start": Worker, "modules": ["x"], "restrat": "temporary"})
    assert spec == ChildSpec("a", Worker)


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ({"start": Worker}, "missing_id"),
        ({"id": "a"}, "missing_start"),
        ({}, "missing_id"),
        ("a", ("invalid_child_spec", str)),
        (None, ("invalid_child_spec", type(None))),
        ({"id": "a", "start": (Worker,)}, ("invalid_mfa", (Worker,))),
        ({"id": "a", "start": (Worker, 3)}, ("invalid_mfa", (Worker, int))),
        ({"id": "a", "start": ()}, ("invalid_mfa", ())),
        ({"id": "a", "start": ("x", 3)}, ("invalid_mfa", (str, int))),
    ],
)
def test_malformed_mappings_are_refused(mapping: Any, reason: Any) -> None:
    """SUP-02: missing_id, missing_start, invalid_mfa and invalid_child_spec."""
    assert reason_of(ChildSpec.from_mapping, mapping) == reason


def test_of_several_mistakes_otps_first_is_named() -> None:
    """SUP-02: id, start, restart, significant, type, shutdown, in this order."""
    mapping: dict[str, Any] = {"shutdown": -1, "type": "x", "significant": 2, "restart": "y", "start": "z"}
    seen = [reason_of(ChildSpec.from_mapping, mapping)]
    for key, value in (("id", "a"), ("start", Worker), ("restart", "permanent"), ("significant", False)):
        mapping[key] = value
        seen.append(reason_of(ChildSpec.from_mapping, mapping))
    mapping["type"] = "worker"
    seen.append(reason_of(ChildSpec.from_mapping, mapping))
    words = [reason if isinstance(reason, str) else reason[0] for reason in seen]
    assert words == [
        "missing_id",
        "invalid_mfa",
        "invalid_restart_type",
        "invalid_significant",
        "invalid_child_type",
        "invalid_shutdown",
    ]


def test_the_mapping_takes_start_with_arguments() -> None:
    """``start`` may be (start, args) or (start, args, kwargs)."""
    spec = ChildSpec.from_mapping({"id": "a", "start": (Worker, [1, 2], {"x": 3})})
    assert (spec.start, spec.args, dict(spec.kwargs)) == (Worker, (1, 2), {"x": 3})
    assert ChildSpec.from_mapping({"id": "a", "start": (Worker, (1,))}).args == (1,)


def test_the_short_form_takes_arguments_in_line() -> None:
    """child_spec(id, start, *args, **options)."""
    assert child_spec("a", Worker, 1, 2, restart="transient") == ChildSpec(
        "a", Worker, args=(1, 2), restart="transient"
    )


def test_a_class_may_stand_for_its_spec() -> None:
    """An actor class is a worker with its name as id, unless it offers a spec itself."""

    class Offering(GenServer):
        @classmethod
        def child_spec(cls) -> ChildSpec:
            return ChildSpec("offered", cls, restart="temporary")

    class Plain(Actor):
        pass

    assert as_child_spec(Plain) == ChildSpec("Plain", Plain)
    assert as_child_spec(Offering) == ChildSpec("offered", Offering, restart="temporary")
    assert as_child_spec({"id": "a", "start": Worker}) == ChildSpec("a", Worker)
    spec = ChildSpec("a", Worker)
    assert as_child_spec(spec) is spec


def test_name_is_a_field_not_an_argument() -> None:
    """The engine would take a keyword argument ``name`` for itself, so it is refused."""
    assert reason_of(ChildSpec, "a", Worker, kwargs={"name": "x"})[0] == "invalid_mfa"


@pytest.mark.parametrize("kwargs", [{"supervised": False}, {"replaces": None}, {3: 4}])
def test_what_the_engine_would_take_is_no_argument(kwargs: dict[Any, Any]) -> None:
    """Keyword arguments that would end in the engine and not in the child, or nowhere, are refused."""
    assert reason_of(ChildSpec, "a", Worker, kwargs=kwargs)[0] == "invalid_mfa"


@pytest.mark.parametrize(
    "given",
    [
        ("sk-secret", Worker),
        {"id": "a", "start": (Worker, "sk-secret")},
        {"id": "a", "start": (Worker, ("x",), "sk-secret", 3)},
        {"id": "a", "start": Worker, "args": "sk-secret"},
        {"id": "a", "start": Worker, "kwargs": ["sk-secret"]},
    ],
)
def test_a_malformed_spec_shows_no_arguments(given: Any) -> None:
    """Whatever is wrong with a spec, the error and its reason do not show what the child would be given."""
    with pytest.raises(SpecError) as caught:
        as_child_spec(given)
    assert "sk-secret" not in f"{caught.value} {caught.value.reason!r} {caught.value.facts!r}"


def test_a_class_that_offers_no_good_spec_is_refused() -> None:
    """Its child_spec() raises, or answers something else: a SpecError that names the class."""

    class Raises(Worker):
        @classmethod
        def child_spec(cls, id: str) -> ChildSpec:
            return ChildSpec(id, cls)

    class Answers(Worker):
        @classmethod
        def child_spec(cls) -> Any:
            return {"id": "a", "start": cls}

    for cls in (Raises, Answers):
        with pytest.raises(SpecError, match=rf"{cls.__name__}\.child_spec\(\)") as caught:
            as_child_spec(cls)
        assert caught.value.reason == ("invalid_child_spec", cls)


def test_significance_that_means_nothing_is_refused() -> None:
    """SUP-60, SUP-64: significant goes neither with auto_shutdown never nor with permanent."""
    transient = ChildSpec("a", Worker, restart="transient", significant=True)
    permanent = ChildSpec("a", Worker, significant=True)
    never = (("auto_shutdown", "never"), ("significant", True))
    assert reason_of(check_significance, transient, "never") == ("bad_combination", never)
    restart = (("restart", "permanent"), ("significant", True))
    assert reason_of(check_significance, permanent, "any_significant") == ("bad_combination", restart)
    check_significance(transient, "any_significant")
    check_significance(ChildSpec("a", Worker), "never")


def test_arguments_do_not_show() -> None:
    """Arguments may hold secrets: they are not in the repr."""
    spec = ChildSpec("a", Worker, args=("sesame",), kwargs={"key": "sesame"})
    assert "sesame" not in repr(spec)


def test_specs_are_values() -> None:
    """Frozen, hashable, equal by content, and they pickle."""
    spec = ChildSpec("a", Worker, args=(1,), kwargs={"x": 1}, shutdown="brutal_kill")
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(ChildSpec("a", Worker, args=(1,), kwargs={"x": 1}, shutdown="brutal_kill"))
    long = ChildSpec("a", Worker, shutdown=timedelta(hours=2))
    assert replace(long, id="b").shutdown == 7200.0
    with pytest.raises(AttributeError):
        spec.id = "b"  # type: ignore[misc]
