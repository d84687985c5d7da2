"""Whatever ends in a module with workers, and whenever: each call ends once, with an answer or with who died."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.actors.modules.actor import ModuleActor
from dspex.actors.modules.messages import Predict
from dspex.actors.modules.pool import ModulePool
from dspex.actors.modules.prediction import Prediction
from dspex.runtime.child_spec import ChildSpec
from dspex.runtime.errors import ActorDied
from dspex.supervisors.supervisor import Supervisor
from kit.modules import Scene
from kit.supervision import House, in_house

WORKERS = 3
QUESTION = Predict({"question": "?"})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 5)),
        st.tuples(st.just("kill"), st.sampled_from(["module/qa", *(f"module/qa/{n}" for n in range(1, WORKERS + 1))])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 1.0])),
    ),
    max_size=20,
)


async def scene_of(house: House) -> Scene:
    """Workers under one supervisor, and a pool under another."""
    scene = Scene(house)
    await scene.stand(delay=1.0)
    how = {"signature": "question -> answer", "provider": "local", "max_concurrency": 2}
    names = [(number, f"module/qa/{number}") for number in range(1, WORKERS + 1)]
    workers = [ChildSpec(name, ModuleActor, ("qa", number), how, name=name) for number, name in names]
    pool = [ChildSpec("pool", ModulePool, ("qa", WORKERS), name="module/qa")]
    for specs in (workers, pool):
        await house.start(Supervisor, specs, max_restarts=1000)
    return scene


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_call_ends_once(steps: list[tuple[str, Any]]) -> None:
    """With an answer, or by the end of its worker; nothing is left, and the next calls are answered by all."""

    async def test(house: House) -> None:
        scene = await scene_of(house)
        asked: list[asyncio.Future[Any]] = []
        killed = 0
        for what, value in steps:
            if what == "ask":
                asked += [asyncio.ensure_future(house.call("module/qa", QUESTION)) for _ in range(value)]
            elif what == "kill":
                killed += house.engine.kill(value)
            await asyncio.sleep(value if what == "wait" else 0.0)
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60.0)
        assert all(isinstance(each, Prediction | ActorDied) for each in outcomes)
        if not killed:
            assert all(isinstance(each, Prediction) for each in outcomes)
        for _ in range(30):
            await asyncio.sleep(0)
        names = [f"module/qa/{number}" for number in range(1, WORKERS + 1)]
        assert [house.engine.router.load(name) for name in ("module/qa", *names)] == [0] * (WORKERS + 1)
        scene.provider.most = 0
        last = await asyncio.gather(*(house.call("module/qa", QUESTION) for _ in range(2 * WORKERS)))
        assert len(last) == 2 * WORKERS
        assert scene.provider.most == 2 * WORKERS  # all at once: no worker was passed over

    in_house(test)
