"""The picture of the whole: the way of an event in a service, and a template's way to services."""

from docs.drawing.svg import SANS, Box, arrow, card, heads, page, rectangle, styles, text

PAGE = Box(0, 0, 960, 616)
LIGHT = {
    "text": f"font-family:{SANS};fill:#1f2328",
    ".paper": "fill:#ffffff;stroke:#d1d9e0",
    ".room": "fill:#f6f8fa;stroke:#d1d9e0",
    ".managed": "fill:#ddf4ff;stroke:#0969da",
    ".yours": "fill:#fff1e5;stroke:#bc4c00;stroke-width:2",
    ".outside": "fill:#eaeef2;stroke:#818b98",
    ".failed": "fill:#ffebe9;stroke:#cf222e",
    ".heading": "font-size:17px;font-weight:600",
    ".title": "font-size:15px;font-weight:600",
    ".note, .way": "font-size:12.5px;fill:#59636e",
    ".name": "font-size:13px;font-weight:600;fill:#59636e",
    ".code": "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px",
    ".line": "fill:none;stroke-width:1.8",
    ".line.flow": "stroke:#59636e",
    ".line.again": "stroke:#cf222e;stroke-dasharray:5 4",
    ".line.merge": "stroke:#0969da",
    ".head.flow": "fill:#59636e",
    ".head.again": "fill:#cf222e",
    ".head.merge": "fill:#0969da",
}
DARK = {
    "text": "fill:#f0f6fc",
    ".paper": "fill:#0d1117;stroke:#3d444d",
    ".room": "fill:#151b23;stroke:#3d444d",
    ".managed": "fill:#10243e;stroke:#4493f8",
    ".yours": "fill:#33200f;stroke:#f0883e",
    ".outside": "fill:#262c36;stroke:#656c76",
    ".failed": "fill:#3a1618;stroke:#f85149",
    ".note, .way": "fill:#a9b3bd",
    ".name": "fill:#a9b3bd",
    ".line.flow": "stroke:#9198a1",
    ".line.again": "stroke:#f85149",
    ".line.merge": "stroke:#4493f8",
    ".head.flow": "fill:#9198a1",
    ".head.again": "fill:#f85149",
    ".head.merge": "fill:#4493f8",
}


def draw() -> str:
    """The picture as SVG."""
    return page(
        PAGE,
        "Dockyard as a whole",
        "In each service the chassis takes an event from the bus to your handler once: consumer, "
        "inbox, handler, publish. What fails is retried or kept as a dead letter. One template "
        "renders all services, and its later versions reach them as merges.",
        styles(LIGHT, DARK),
        [
            heads(["flow", "again", "merge"]),
            rectangle(Box(0.5, 0.5, PAGE.width - 1, PAGE.height - 1), "paper", 14),
            *_event(),
            *_fleet(),
        ],
    )


def _event() -> list[str]:
    """The way of one event through a service."""
    service = Box(160, 58, 640, 262)
    arrives, leaves = Box(24, 96, 104, 206), Box(832, 96, 104, 206)
    consumer, inbox, handler, publish = (Box(176 + 158 * n, 96, 134, 80) for n in range(4))
    retry, dead = Box(handler.x, 228, 134, 58), Box(publish.x, 228, 134, 58)
    return [
        text((24, 38), "In a service, an event is handled once", "heading", "start"),
        rectangle(service, "room"),
        text((service.x + 16, 82), "billing-svc", "name", "start"),
        card(arrives, "outside", "bus", "RabbitMQ", "or NATS"),
        card(leaves, "outside", "bus", "for other", "services"),
        card(consumer, "managed", "consumer", "takes, decodes"),
        card(inbox, "managed", "inbox", "knows repeats"),
        card(handler, "yours", "handler", "your code"),
        card(publish, "managed", "publish", "then acknowledge"),
        card(retry, "managed", "retry", "with backoff"),
        card(dead, "failed", "dead letter", "attempts used up"),
        arrow("flow", (arrives.right[0], consumer.left[1]), consumer.left),
        arrow("flow", consumer.right, inbox.left),
        arrow("flow", inbox.right, handler.left),
        arrow("flow", handler.right, publish.left),
        arrow("flow", publish.right, (leaves.x, publish.right[1])),
        arrow("again", handler.bottom, retry.top),
        text((handler.bottom[0] + 10, 206), "raises", "way", "start"),
        arrow("again", (retry.x, 246), (arrives.right[0], 246)),
        text((312, 240), "comes again later", "way"),
        arrow("again", retry.right, dead.left),
        arrow("again", dead.bottom, (dead.bottom[0], 302), (144, 302), (144, 270), (128, 270)),
        text((312, 296), "replayed after a fix", "way"),
    ]


def _fleet() -> list[str]:
    """One template, many services."""
    template = Box(24, 372, 150, 206)
    services = Box(366, 372, 570, 206)
    names = ("billing-svc", "welcome-svc", "shipping-svc")
    return [
        text((24, 356), "Across services, one template keeps them alike", "heading", "start"),
        card(template, "managed", "template", "the platform", "team changes it"),
        rectangle(services, "room"),
        arrow("flow", (template.right[0], 442), (services.x, 442)),
        text((270, 432), "dockyard new", "code"),
        arrow("merge", (template.right[0], 506), (services.x, 506)),
        text((270, 496), "dockyard update", "code"),
        text((270, 526), "each new version is a merge", "way"),
        *(part for n, name in enumerate(names) for part in _service(382 + 184 * n, name)),
        text(
            (services.middle[0], 600),
            "An update brings what is managed up to date, and never touches what is yours.",
            "way",
        ),
    ]


def _service(x: float, name: str) -> list[str]:
    managed, yours = Box(x, 412, 170, 74), Box(x, 492, 170, 68)
    return [
        text((managed.middle[0], 400), name, "name"),
        card(managed, "managed", "managed", "chassis, chart, CI"),
        card(yours, "yours", "yours", "handlers, contracts"),
    ]
