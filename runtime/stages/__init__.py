"""GenStage: streams of events with demand, between actors (OTP section 6)."""

from __future__ import annotations

from .accounting import Account
from .broadcast_dispatcher import BroadcastDispatcher
from .consumer import Consumer, ConsumerSide
from .credit import Credit
from .demand_dispatcher import DemandDispatcher
from .dispatcher import Dispatcher, Link, SubscriptionRefused
from .enumerable import FromEnumerable, from_enumerable
from .messages import AsyncInfo, EstimateBufferedCount, SetDemandMode, Subscribe, Subscription, SyncInfo
from .options import StageOptions, SubscribeOptions
from .partition_dispatcher import PartitionDispatcher
from .producer import Producer
from .producer_consumer import ProducerConsumer
from .reader import Next, StreamOver
from .stream import Stream, stream

__all__ = (
    "Account",
    "AsyncInfo",
    "BroadcastDispatcher",
    "Consumer",
    "ConsumerSide",
    "Credit",
    "DemandDispatcher",
    "Dispatcher",
    "EstimateBufferedCount",
    "FromEnumerable",
    "Link",
    "Next",
    "PartitionDispatcher",
    "Producer",
    "ProducerConsumer",
    "SetDemandMode",
    "StageOptions",
    "Stream",
    "StreamOver",
    "Subscribe",
    "SubscribeOptions",
    "Subscription",
    "SubscriptionRefused",
    "SyncInfo",
    "from_enumerable",
    "stream",
)
