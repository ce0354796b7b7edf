"""Writes what the reference, transformers, makes of chat templates and conversations, for the golden test of router/chat.

  python3 -m venv /tmp/reference && /tmp/reference/bin/pip install transformers==5.24.0 jinja2==3.1.6
  /tmp/reference/bin/pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36      # brings 70 templates of real models
  tar xzf llama_cpp_python-0.3.36.tar.gz --wildcards '*/models/templates/*.jinja'
  /tmp/reference/bin/python scripts/chat_templates/reference.py OUT llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates/*.jinja
  LOCKSTEP_SHARED=OUT go test -count=1 -run Golden ./router/chat

OUT gets golden/templates/templates.jsonl and cases.jsonl, in the form of the shared golden data.
"""
import datetime
import json
import os
import sys

import transformers.utils.chat_template_utils as reference

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather <now> & \"later\"",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "é city", "enum": ["a", "b"]}, "n": {"type": "integer", "default": 5}}}}}]
ARGUMENTS = {"city": "Paris", "n": 3, "deep": {"a": [1, 2.5, True, None, "x\"y"]}}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(number, arguments):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def result(number, text):
    return {"role": "tool", "content": text, "tool_call_id": f"call{number:05d}", "name": "get_weather"}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


TURNS = [system("Be kind."), user("Hello"), assistant("Hi."), user("And now?")]
# By name: messages, and what else is given.
CONVERSATIONS = {
    "plain": ([user("What's the capital of France?")], {"add_generation_prompt": False}),
    "turns": (TURNS, {}),
    "turns_closed": (TURNS, {"add_generation_prompt": False}),
    "empty": ([], {}),
    "empty_content": ([user("")], {}),
    "system_only": ([system("S")], {}),
    "assistant_first": ([assistant("A"), user("U")], {}),
    "two_users": ([user("a"), user("b")], {}),
    "late_system": ([user("a"), system("S"), user("b")], {}),
    "unknown_role": ([{"role": "narrator", "content": "n"}, user("u")], {}),
    "developer": ([{"role": "developer", "content": "D"}, user("u")], {}),
    "no_content": ([{"role": "user"}], {}),
    "parts": ([user(parts("First.", " Second."))], {}),
    "image": ([user([{"type": "image"}, *parts("What is this?")]), assistant(parts("A cat.")), user("Sure?")], {}),
    "tools": (TURNS, {"tools": TOOLS}),
    "tools_without_system": (TURNS[1:], {"tools": TOOLS}),
    "tool_calls": ([system("S"), user("W?"), assistant("", tool_calls=[call(1, ARGUMENTS), call(2, ARGUMENTS)]), result(1, '{"t": 5}'), result(2, "7"),
                    assistant("It is 5."), user("And?")], {"tools": TOOLS}),
    "tool_calls_as_text": ([user("W?"), assistant(None, tool_calls=[call(1, json.dumps(ARGUMENTS))]), result(1, "5")], {"tools": TOOLS}),
    "thinking_tags": ([user("1+1?"), assistant("<think>\nhmm\n</think>\n\n2"), user("2+2?")], {}),
    "reasoning": ([user("1+1?"), assistant("2", reasoning_content="easy"), user("2+2?"), assistant("4", reasoning_content="also")],
                  {"add_generation_prompt": False}),
    "reasoning_and_call": ([user("W?"), assistant(None, tool_calls=[call(1, ARGUMENTS)], reasoning_content="need it"), result(1, "5")],
                           {"tools": TOOLS, "enable_thinking": True}),
    "thinking_on": ([user("a")], {"enable_thinking": True, "thinking": True}),
    "thinking_off": ([user("a")], {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}),
    "continued": ([user("u"), assistant("Once upon")], {"continue_final_message": True, "add_generation_prompt": False}),
    "continued_space": ([user("u"), assistant(" Once upon \n")], {"continue_final_message": True, "add_generation_prompt": False}),
    "continued_thought": ([user("u"), assistant("<think>a</think> b ")], {"continue_final_message": True, "add_generation_prompt": False}),
    "many_turns": ([system("S")] + [m for i in range(6) for m in (user(f"q{i} \n"), assistant(f" a{i}\t"))] + [user("end")], {}),
    "odd_text": ([user("<|im_end|> {{ 7*7 }} {% if %} 'q' \"d\" \\n \u2028 \u00a0 é 中 😀")], {}),
    "documents": ([user("u")], {"documents": [{"title": "T", "text": "X\nY"}, {"title": "é", "text": ""}]}),
    "documents_and_tools": ([system("S"), user("u")], {"documents": [{"title": "T", "text": "X"}], "tools": TOOLS}),
    "date": ([user("u")], {"date_string": "26 Jul 2024", "tools_in_user_message": False}),
}


class Clock(datetime.datetime):
    """Stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 24, 10, 30, 0)


def case(template, source, name):
    messages, given = CONVERSATIONS[name]
    more = {"add_generation_prompt": True, "continue_final_message": False, "tools": None, "documents": None, **given}
    arguments = {k: v for k, v in more.items() if k not in ("add_generation_prompt", "continue_final_message", "tools", "documents")}
    row = {"id": f"{template}|{name}", "template": template, "messages": messages, "special_tokens": TOKENS, "kwargs": arguments,
           **{k: v for k, v in more.items() if k not in arguments}}
    written = [{k: v for k, v in message.items() if v is not None} for message in messages]
    try:
        rendered, _ = reference.render_jinja_template([written], chat_template=source, **more, **TOKENS)
        row["text"] = rendered[0]
    except Exception as error:  # whatever Python raises is the reference
        kind = "raise_exception" if type(error).__name__ == "TemplateError" else "runtime"
        row.update(error=type(error).__name__, error_kind=kind, message=str(error))
    return row


def main(out, paths):
    reference.datetime = Clock
    folder = os.path.join(out, "golden", "templates")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "templates.jsonl"), "w") as templates, open(os.path.join(folder, "cases.jsonl"), "w") as cases:
        for path in paths:
            template = os.path.basename(path).removesuffix(".jinja")
            with open(path, encoding="utf8") as file:
                source = file.read()
            templates.write(json.dumps({"name": template, "template": source}) + "\n")
            for name in CONVERSATIONS:
                cases.write(json.dumps(case(template, source, name)) + "\n")
    print(f"{len(paths)} templates, {len(paths) * len(CONVERSATIONS)} cases")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
