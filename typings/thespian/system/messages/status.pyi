from typing import Any

from thespian.actors import ActorAddress
from thespian.system.timing import ExpirationTimer

class Thespian_StatusReq: ...  # noqa: N801

class Thespian_ActorStatus:  # noqa: N801
    def __init__(
        self,
        address: ActorAddress,
        actorClass: Any,
        adminAddress: ActorAddress,
        parentAddress: ActorAddress | None = None,
        sourceHash: str | None = None,
        exiting: bool | None = None,
    ) -> None: ...
    childActors: list[ActorAddress]
    pendingWakeups: list[tuple[ActorAddress, ExpirationTimer]]
    def addChild(self, childAddress: ActorAddress) -> None: ...
    def addWakeups(self, wakeups: list[tuple[ActorAddress, ExpirationTimer]]) -> None: ...
