"""Clients that want structured output, tools or another form of chats, unchanged, against a running Lockstep that serves a model which can
call (Qwen2.5-Coder-0.5B-Instruct).

usage: agents.py openai|responses|anthropic|langchain|llamaindex|litellm|pydanticai|instructor|tgi URL

Exits with a traceback when something is not as it should be.
"""
import enum
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched
os.environ.setdefault("OPENAI_API_KEY", "none")
os.environ["LANGSMITH_TRACING"] = "false"

import pydantic


class Unit(str, enum.Enum):
    celsius = "celsius"
    fahrenheit = "fahrenheit"


class City(pydantic.BaseModel):
    """A city."""

    name: str
    country: str
    inhabitants: int


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    city: str
    unit: Unit


ASK = "Which is the largest city of France? Answer with its name, its country and how many inhabitants it has."
WEATHER = "What is the weather in Paris, in celsius?"
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Tells the weather of a city.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"]}}},
    {"type": "function", "function": {"name": "add", "description": "Adds two integers.", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}},
]


def check(city):
    assert isinstance(city, City) and "Paris" in city.name and "France" in city.country, city


def run_openai(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    messages = [{"role": "user", "content": ASK}]
    parsed = client.chat.completions.parse(model="x", messages=messages, response_format=City, temperature=0)
    check(parsed.choices[0].message.parsed)
    with client.chat.completions.stream(model="x", messages=messages, response_format=City, temperature=0) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.parsed == parsed.choices[0].message.parsed
    assert {"content.delta", "content.done"} <= kinds, kinds

    # A loop of tools: called, told, answered.
    messages = [{"role": "user", "content": WEATHER}]
    ask = dict(model="x", tools=TOOLS, temperature=0, max_tokens=200)
    for choice, reason in (("required", "tool_calls"), ({"type": "function", "function": {"name": "get_weather"}}, "stop")):
        first = client.chat.completions.create(messages=messages, tool_choice=choice, **ask).choices[0]
        call = first.message.tool_calls[0]
        assert first.finish_reason == reason and call.function.name == "get_weather" and first.message.content is None, first
        assert json.loads(call.function.arguments) == {"city": "Paris", "unit": "celsius"}, call
    with client.chat.completions.stream(messages=messages, tool_choice="required", **ask) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [(d.name, d.arguments) for d in done] == [("get_weather", call.function.arguments)], done
    messages += [first.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "17 degrees, rain"}]
    last = client.chat.completions.create(messages=messages, tool_choice="none", **ask).choices[0]
    assert last.finish_reason == "stop" and "17" in last.message.content, last
    tool = openai.pydantic_function_tool(Weather)
    parsed = client.chat.completions.parse(model="x", messages=messages[:1], tools=[tool], tool_choice="required", temperature=0)
    weather = parsed.choices[0].message.tool_calls[0].function.parsed_arguments
    assert weather == Weather(city="Paris", unit=Unit.celsius), weather
    for extra, want in (({"guided_choice": ["yes", "no"]}, ("yes", "no")), ({"structured_outputs": {"regex": "[0-9]{3}"}}, None),
                        ({"guided_grammar": 'root ::= "<" [a-z]+ ">"'}, None)):
        text = client.chat.completions.create(model="x", messages=messages[:1], extra_body=extra, max_tokens=30).choices[0].message.content
        assert text in want if want else text, (extra, text)
    try:
        client.chat.completions.create(model="x", messages=messages[:1], response_format={"type": "json_schema", "json_schema": {
            "name": "n", "schema": {"type": "object", "not": {}}}})
    except openai.BadRequestError as error:
        assert error.param == "response_format" and "'not'" in error.message.replace('"', "'"), error
    else:
        raise AssertionError("a schema that cannot be held to was taken")


def run_responses(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    parsed = client.responses.parse(model="x", input=ASK, text_format=City, temperature=0)
    check(parsed.output_parsed)
    assert parsed.status == "completed" and parsed.usage.output_tokens > 5, parsed
    with client.responses.stream(model="x", input=ASK, text_format=City, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_parsed == parsed.output_parsed and text == parsed.output_text
    flat = [{"type": "function", "strict": False, **t["function"]} for t in TOOLS]
    asked = [{"role": "user", "content": WEATHER}]
    first = client.responses.create(model="x", input=asked, tools=flat, tool_choice="required", temperature=0)
    call = first.output[0]
    assert call.type == "function_call" and call.name == "get_weather" and json.loads(call.arguments)["city"] == "Paris", first
    told = asked + [call.model_dump(), {"type": "function_call_output", "call_id": call.call_id, "output": "17 degrees, rain"}]
    last = client.responses.create(model="x", input=told, tools=flat, tool_choice="none", temperature=0, instructions="Be short.")
    assert "17" in last.output_text, last
    cut = client.responses.create(model="x", input="Tell me a story.", max_output_tokens=4)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut


def run_anthropic(url):
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    ask = dict(model="x", max_tokens=200, extra_body={"temperature": 0})
    whole = client.messages.create(system="You are brief.", messages=[{"role": "user", "content": "What is the capital of France?"}], **ask)
    assert "Paris" in whole.content[0].text and whole.stop_reason == "end_turn" and whole.usage.output_tokens > 0, whole
    with client.messages.stream(system="You are brief.", messages=[{"role": "user", "content": "What is the capital of France?"}],
                                **ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text and final.usage.output_tokens == whole.usage.output_tokens, final
    tools = [{"name": t["function"]["name"], "description": t["function"]["description"], "input_schema": t["function"]["parameters"]}
             for t in TOOLS]
    asked = [{"role": "user", "content": WEATHER}]
    first = client.messages.create(messages=asked, tools=tools, tool_choice={"type": "any"}, **ask)
    use = first.content[0]
    assert first.stop_reason == "tool_use" and use.name == "get_weather" and use.input == {"city": "Paris", "unit": "celsius"}, first
    with client.messages.stream(messages=asked, tools=tools, tool_choice={"type": "tool", "name": "get_weather"}, **ask) as stream:
        assert stream.get_final_message().content[0].input == use.input
    told = asked + [{"role": "assistant", "content": [use.model_dump()]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "17 degrees, rain"}]}]
    last = client.messages.create(messages=told, tools=tools, tool_choice={"type": "none"}, **ask)
    assert "17" in last.content[0].text and last.stop_reason == "end_turn", last
    assert client.messages.count_tokens(model="x", messages=asked).input_tokens > 5
    stopped = client.messages.create(messages=[{"role": "user", "content": "Count from 1 to 9."}], stop_sequences=["4"], **ask)
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "4" and "5" not in stopped.content[0].text, stopped
    try:
        client.messages.create(model="x", max_tokens=0, messages=asked)
    except anthropic.BadRequestError as error:
        assert error.body["error"]["type"] == "invalid_request_error", error.body
    else:
        raise AssertionError("0 tokens were taken")


def run_langchain(url):
    from langchain.agents import create_agent
    from langchain.tools import tool
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=url + "/v1", model="x", temperature=0, max_retries=0, max_completion_tokens=200)
    for method in ("json_schema", "function_calling"):
        check(chat.with_structured_output(City, method=method).invoke(ASK))

    # What a tool returns is the answer: so small a model goes on calling.
    @tool(return_direct=True)
    def get_weather(city: str, unit: Unit) -> str:
        """Tells the weather of a city."""
        return f"{city}: 17 degrees {unit.value}"

    @tool(return_direct=True)
    def add(a: int, b: int) -> int:
        """Adds two integers."""
        return a + b

    agent = create_agent(chat, tools=[get_weather, add])
    for ask, want in ((WEATHER, "Paris: 17 degrees celsius"), ("Add 19 and 23.", "42")):
        said = agent.invoke({"messages": [{"role": "user", "content": ask}]})["messages"]
        assert said[-1].content == want, said


def run_llamaindex(url):
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    chat = OpenAILike(api_base=url + "/v1", api_key="none", model="x", is_chat_model=True, is_function_calling_model=True, max_tokens=200,
                      temperature=0, max_retries=0)
    check(chat.as_structured_llm(City).chat([ChatMessage(role="user", content=ASK)]).raw)

    def add(a: int, b: int) -> int:
        """Adds two integers."""
        return a + b

    answer = chat.predict_and_call([FunctionTool.from_defaults(add)], "Add 19 and 23.", tool_choice="required")
    assert str(answer) == "42", answer


def run_litellm(url):
    import litellm

    ask = dict(model="openai/x", api_base=url + "/v1", temperature=0, max_tokens=200, num_retries=0)
    answer = litellm.completion(messages=[{"role": "user", "content": ASK}], response_format=City, **ask)
    check(City.model_validate_json(answer.choices[0].message.content))
    answer = litellm.completion(messages=[{"role": "user", "content": WEATHER}], tools=TOOLS, tool_choice="required", **ask)
    call = answer.choices[0].message.tool_calls[0].function
    assert call.name == "get_weather" and json.loads(call.arguments)["unit"] == "celsius", answer
    answer = litellm.completion(model="anthropic/x", api_base=url, api_key="none", max_tokens=50,
                                messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0)
    assert "Paris" in answer.choices[0].message.content, answer


def run_pydanticai(url):
    import pydantic_ai
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("x", provider=OpenAIProvider(base_url=url + "/v1", api_key="none"))
    settings = {"temperature": 0, "max_tokens": 200}
    for output in (pydantic_ai.NativeOutput(City), pydantic_ai.ToolOutput(City)):
        check(pydantic_ai.Agent(model, output_type=output, model_settings=settings).run_sync(ASK).output)

    def get_weather(city: str, unit: Unit) -> str:
        """Tells the weather of a city."""
        return f"{city}: 17 degrees {unit.value}"

    def add(a: int, b: int) -> int:
        """Adds two integers."""
        return a + b

    agent = pydantic_ai.Agent(model, output_type=[get_weather, add], model_settings=settings)
    for ask, want in ((WEATHER, "Paris: 17 degrees celsius"), ("Add 19 and 23.", 42)):
        assert agent.run_sync(ask).output == want, ask


def run_instructor(url):
    import instructor
    import openai

    for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS, instructor.Mode.JSON):
        client = instructor.from_openai(openai.OpenAI(base_url=url + "/v1"), mode=mode)
        check(client.chat.completions.create(model="x", messages=[{"role": "user", "content": ASK}], response_model=City, temperature=0,
                                             max_retries=0))


def run_tgi(url):
    import text_generation
    from text_generation.types import Grammar, GrammarType

    client = text_generation.Client(url, timeout=60)
    answer = client.generate(ASK, max_new_tokens=100, grammar=Grammar(type=GrammarType.Json, value=City.model_json_schema()))
    City.model_validate_json(answer.generated_text)
    answer = client.generate("A number: ", max_new_tokens=20, grammar=Grammar(type=GrammarType.Regex, value="[0-9]{4}-[0-9]{2}"))
    assert len(answer.generated_text) == 7 and answer.details.finish_reason.value == "eos_token", answer


if __name__ == "__main__":
    name, url = sys.argv[1], sys.argv[2].rstrip("/")
    globals()["run_" + name](url)
