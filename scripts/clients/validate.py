"""Judges JSON documents by their schemas with jsonschema.

usage: validate.py <LINES

A line is {"name", "schema", "text"}. It tells of each text that is no JSON or not valid by its schema, and then exits with 1.
"""
import json
import sys

from jsonschema import Draft202012Validator

validators, ill, seen = {}, 0, 0
for line in sys.stdin:
    case = json.loads(line)
    key = json.dumps(case["schema"])
    if key not in validators:
        validators[key] = Draft202012Validator(case["schema"])
    seen += 1
    try:
        document = json.loads(case["text"])
        error = next(validators[key].iter_errors(document), None)
        reason = error and error.message
    except ValueError as failure:
        reason = str(failure)
    if reason:
        ill += 1
        print(f"{case['name']}: {case['text']!r}: {reason}")
print(f"{seen} texts, {ill} not valid")
sys.exit(ill > 0 or seen == 0)
