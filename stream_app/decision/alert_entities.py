"""The session, device, address and card that a fraud alert names: as the event had them, as keyed digests, or not at all.

A digest is that of the state's keys (stream_app.privacy), so live and replay give the same one under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from stream_app.events import AlertEntities, Event, Order
from stream_app.features.columns.text import REDUCED
from stream_app.privacy import Pseudonymizer

# Field of an alert's entities -> domain of its digest.
_DOMAINS: Final = {
    "session": "session",
    "device": "device",
    "ip": "ip",
    "payment_instrument": "instrument",
    "shipping_address": "address",
}


def entities_reader(form: Literal["none", "digest", "raw"], identity: Pseudonymizer) -> Callable[[Event], AlertEntities | None]:
    """Return the function that reads an alert's entities from its event.

    Args:
        form: The setting `privacy.alert_entities`.
        identity: Makes the digests.
    """
    if form == "none":
        return lambda _event: None
    hashers = {field: identity.hasher(domain, REDUCED.get(domain)) for field, domain in _DOMAINS.items()}

    def entities(event: Event) -> AlertEntities:
        texts = _texts(event)
        if form == "digest":
            texts = {field: hashers[field](text).hex() for field, text in texts.items()}
        return AlertEntities(form=form, **texts)

    return entities


def _texts(event: Event) -> dict[str, str]:
    instrument, address = (event.payment_instrument, event.shipping_address) if isinstance(event, Order) else ("", "")
    return {
        "session": event.session,
        "device": event.device,
        "ip": event.ip,
        "payment_instrument": instrument,
        "shipping_address": address,
    }
