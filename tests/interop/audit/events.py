"""Holds events against the definitions of OCSF, which the package pydantic-ocsf has.

    events.py FILE    one event in JSON on each line; says which classes there were

Its models check types, enumerations and what is required of a class. What they let pass is checked here by the
definitions themselves: attributes that a class or an object does not have, nulls, and constraints.
"""

import importlib
import importlib.resources
import json
import sys

VERSION = "v1_3_0"
SCHEMA = json.loads(importlib.resources.files("ocsf").joinpath(f"schemas/{VERSION}.json").read_text())
MODELS = importlib.import_module(f"ocsf.{VERSION}.events")

# What every event has by `includes/classification.json` and `includes/occurrence.json` of the schema. The
# package names these files and does not have them.
REQUIRED = {"activity_id", "category_uid", "class_uid", "type_uid", "time"}
INCLUDED = REQUIRED | {
    "activity_name", "category_name", "class_name", "type_name",
    "count", "duration", "end_time", "start_time", "timezone_offset",
}


class Wrong(Exception):
    pass


def lineage(kind, name):
    """NAME and what it extends."""
    while name:
        spec = SCHEMA[kind][name]
        yield spec
        name = spec.get("extends")


def attributes(kind, name):
    found = {}
    for spec in lineage(kind, name):
        for attribute, said in spec["attributes"].items():
            if attribute == "$include":
                continue
            # The nearest definition that says something says it.
            before = found.setdefault(attribute, {})
            for key, value in said.items():
                if key == "enum":
                    before.setdefault("enum", {}).update(value)
                else:
                    before.setdefault(key, value)
    return found


def dictionary(attribute):
    return SCHEMA["dictionary"]["attributes"][attribute]


def check(kind, name, value, where):
    """VALUE is an event or object as its definition NAME says, with no more and no less."""
    if not isinstance(value, dict):
        raise Wrong(f"{where} is no object")
    known = attributes(kind, name)
    included = INCLUDED if kind == "events" else set()
    for attribute, inner in value.items():
        here = f"{where}.{attribute}"
        if inner is None:
            raise Wrong(f"{here} is null")
        if attribute not in known and attribute not in included:
            raise Wrong(f"{here} is not in the schema")
        check_value(known.get(attribute, {}), attribute, inner, here)
    required = {attribute for attribute, said in known.items() if said.get("requirement") == "required"}
    required |= REQUIRED if kind == "events" else set()
    if missing := required - value.keys():
        raise Wrong(f"{where} lacks {sorted(missing)}")
    for spec in lineage(kind, name):
        one = spec.get("constraints", {}).get("at_least_one")
        if one and not set(one) & value.keys():
            raise Wrong(f"{where} has none of {one}")


def check_value(said, attribute, value, where):
    general = dictionary(attribute)
    if general.get("is_array"):
        raise Wrong(f"{where} is an array, which this check does not know")
    kind = general["type"]
    if kind == "object":
        return
    if kind in SCHEMA["objects"]:
        return check("objects", kind, value, where)
    numbers = {"integer_t", "long_t", "timestamp_t", "port_t"}
    right = isinstance(value, int) and not isinstance(value, bool) if kind in numbers else isinstance(value, str)
    if not right:
        raise Wrong(f"{where} is {value!r}, not a {kind}")
    values = said.get("enum", {}) | general.get("enum", {})
    if values and kind in numbers and str(value) not in values:
        raise Wrong(f"{where} is {value}, which means nothing")


def class_of(event):
    for name, spec in SCHEMA["events"].items():
        category = next((s["category"] for s in lineage("events", name) if "category" in s), None)
        if category is None or "uid" not in spec and name != "base_event":
            continue
        number = SCHEMA["categories_meta"]["attributes"].get(category, {"uid": 0})["uid"]
        if number * 1000 + spec.get("uid", 0) == event["class_uid"]:
            return name, number
    raise Wrong(f"no class {event['class_uid']}")


def whole(event):
    name, category = class_of(event)
    if event["category_uid"] != category or event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        raise Wrong("category_uid or type_uid is another")
    check("events", name, event, name)
    pascal = "".join(part.capitalize() for part in name.split("_")).replace("Api", "API")
    model = getattr(MODELS, pascal, None) or getattr(MODELS, pascal.replace("API", "Api"))
    model.model_validate(json.loads(json.dumps(event)))
    return name


def altered(event):
    """EVENT with one mistake each: this check would find them."""
    def other(**changes):
        return {key: value for key, value in (event | changes).items() if value != "gone"}

    yield other(time="gone")
    yield other(metadata="gone")
    yield other(metadata={key: value for key, value in event["metadata"].items() if key != "product"})
    yield other(severity_id=7)
    yield other(type_uid=1)
    yield other(surprise="one")
    yield other(time=str(event["time"]))
    if "entity" in event:
        yield other(entity={"type": "token"})
        yield other(entity={**event["entity"], "name": None})


def main():
    classes, events, seen = set(), set(), set()
    for number, line in enumerate(open(sys.argv[1]), 1):
        event = json.loads(line)
        try:
            name = whole(event)
        except (Wrong, ValueError) as error:
            sys.exit(f"line {number}, {event['metadata'].get('event_code')}: {error}")
        classes.add(name)
        events.add(event["metadata"]["event_code"])
        if name not in seen:
            seen.add(name)
            for mistake in altered(event):
                try:
                    whole(mistake)
                except (Wrong, ValueError, KeyError):
                    continue
                sys.exit(f"line {number}: a mistake was not found: {json.dumps(mistake)}")
    print(f"{len(events)} kinds of events of {', '.join(sorted(classes))}: {', '.join(sorted(events))}")


main()
