"""Clients of OpenAI's interface, unchanged, against a running Lockstep: whole answers, streams, leaving, errors, retries.

usage: openai_clients.py openai|hub|langchain|litellm|llamaindex|sensible URL

Exits with a traceback when something is not as it should be. The server must take two requests at once and no more.
"""
import asyncio
import json
import os
import sys
import threading
import time
import urllib.request

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched
os.environ.setdefault("OPENAI_API_KEY", "none")

MESSAGES = [{"role": "system", "content": "You tell stories."}, {"role": "user", "content": "Tell me a story."}]


def wait_idle(url):
    """Waits until no request holds anything: whoever left is forgotten."""
    for _ in range(200):
        with urllib.request.urlopen(url + "/token_load") as answer:
            if json.load(answer)["dynamic_max_load"] == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server still works for a client that has left")


def openai_sync(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model
    ask = dict(model=model, messages=MESSAGES, max_tokens=24, seed=5, logprobs=True, top_logprobs=2)
    whole = client.chat.completions.create(**ask)
    choice = whole.choices[0]
    assert whole.usage.completion_tokens == 24 == len(choice.logprobs.content) and choice.finish_reason == "length", whole
    assert b"".join(bytes(t.bytes) for t in choice.logprobs.content).decode() == choice.message.content, whole
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == choice.message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens and chunks[-2].choices[0].finish_reason == "length", chunks[-2:]
    assert [t for c in chunks[:-1] for t in (c.choices[0].logprobs.content if c.choices[0].logprobs else [])] == choice.logprobs.content
    assert len({c.id for c in chunks}) == 1 and chunks[0].id != whole.id

    two = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, n=2, seed=5)
    assert two.choices[0].message.content != two.choices[1].message.content and two.usage.completion_tokens == 16, two
    stop = choice.message.content.split()[3]
    stopped = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=24, seed=5, stop=[stop])
    assert stopped.choices[0].finish_reason == "stop" and choice.message.content.split(stop)[0] == stopped.choices[0].message.content, stopped

    text = client.completions.create(model=model, prompt=["Once upon a time", "The dog"], max_tokens=6, temperature=0, logprobs=1, echo=True)
    assert text.choices[0].text.startswith("Once upon a time") and text.choices[1].text.startswith("The dog"), text
    assert "".join(text.choices[0].logprobs.tokens) == text.choices[0].text, text
    streamed = ["", ""]
    for chunk in client.completions.create(model=model, prompt=["Once upon a time", "The dog"], max_tokens=6, temperature=0, echo=True, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [c.text for c in text.choices], streamed


def openai_errors(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    for fields, param, code in (
        ({"max_tokens": 10**6}, "messages", "context_length_exceeded"),
        ({"temperature": 9}, "temperature", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ):
        for stream in (False, True):
            try:
                client.chat.completions.create(model="x", messages=MESSAGES, stream=stream, **fields)
                raise AssertionError(f"{fields} were taken")
            except openai.BadRequestError as error:
                assert (error.param, error.code) == (param, code), error
    try:
        client.models.retrieve("none")
        raise AssertionError("there is a model called none")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error


def openai_leaves(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    long = {"model": "x", "messages": MESSAGES, "max_tokens": 1900, "extra_body": {"ignore_eos": True}}
    with client.chat.completions.create(stream=True, **long) as stream:
        next(iter(stream))
    wait_idle(url)
    try:
        client.with_options(timeout=0.2).chat.completions.create(**long)
        raise AssertionError("a whole context was computed within 0.2 s")
    except openai.APITimeoutError:
        wait_idle(url)


def openai_retries(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    long = {"model": "x", "messages": MESSAGES, "max_tokens": 1900, "stream": True, "extra_body": {"ignore_eos": True}}
    streams = [client.chat.completions.create(**long) for _ in range(2)]
    for stream in streams:
        next(iter(stream))
    try:
        client.chat.completions.create(model="x", messages=MESSAGES, max_tokens=4)
        raise AssertionError("a third request was taken")
    except openai.RateLimitError as error:
        assert error.code == "rate_limit_exceeded" and error.response.headers["retry-after"] == "1", error
    free = threading.Timer(0.5, lambda: [stream.close() for stream in streams])
    free.start()
    patient = client.with_options(max_retries=10)
    assert patient.chat.completions.create(model="x", messages=MESSAGES, max_tokens=4).usage.completion_tokens == 4
    free.join()
    wait_idle(url)


async def openai_async(url):
    import openai

    async with openai.AsyncOpenAI(base_url=url + "/v1", max_retries=0) as client:
        ask = dict(model="x", messages=MESSAGES, max_tokens=16, temperature=0)
        whole, text = await asyncio.gather(client.chat.completions.create(**ask), client.completions.create(model="x", prompt="Once", max_tokens=5))
        streamed = ""
        async for chunk in await client.chat.completions.create(stream=True, **ask):
            streamed += chunk.choices[0].delta.content or ""
        assert streamed == whole.choices[0].message.content and text.usage.completion_tokens == 5

        async def endless():
            async for _ in await client.chat.completions.create(model="x", messages=MESSAGES, max_tokens=1900, stream=True,
                                                                extra_body={"ignore_eos": True}):
                started.set()

        started = asyncio.Event()
        task = asyncio.create_task(endless())
        await started.wait()
        task.cancel()
    wait_idle(url)


def hub(url):
    from huggingface_hub import AsyncInferenceClient, InferenceClient
    from huggingface_hub.errors import BadRequestError, HfHubHTTPError

    for base in (url, url + "/v1"):
        client = InferenceClient(base_url=base, timeout=60)
        ask = dict(messages=MESSAGES, max_tokens=16, seed=3, temperature=0.7)
        whole = client.chat_completion(**ask)
        chunks = list(client.chat_completion(stream=True, stream_options={"include_usage": True}, **ask))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content, chunks
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 16, chunks[-1]
    same = client.chat.completions.create(model="tgi", logprobs=True, top_logprobs=2, **ask)
    assert same.choices[0].message.content == whole.choices[0].message.content and len(same.choices[0].logprobs.content) == 16, same
    try:
        client.chat_completion(messages=MESSAGES, max_tokens=10**6)
        raise AssertionError("a million tokens were promised")
    except (BadRequestError, HfHubHTTPError) as error:
        assert "This model's maximum context length is" in str(error), error
    for chunk in client.chat_completion(messages=MESSAGES, stream=True):
        break  # leaves
    del chunk

    async def streamed():
        text = ""
        async for chunk in await AsyncInferenceClient(base_url=url).chat_completion(stream=True, **ask):
            text += chunk.choices[0].delta.content or ""
        return text

    assert asyncio.run(streamed()) == whole.choices[0].message.content


def langchain(url):
    from langchain_core.exceptions import ContextOverflowError
    from langchain_openai import ChatOpenAI, OpenAI

    chat = ChatOpenAI(base_url=url + "/v1", api_key="none", model="x", max_tokens=16, temperature=0, max_retries=0)
    whole = chat.invoke([("system", "You tell stories."), ("human", "Tell me a story.")])
    assert whole.usage_metadata["output_tokens"] == 16 and whole.response_metadata["finish_reason"] == "length", whole
    assert "".join(c.content for c in chat.stream([("system", "You tell stories."), ("human", "Tell me a story.")])) == whole.content
    assert asyncio.run(chat.ainvoke([("system", "You tell stories."), ("human", "Tell me a story.")])).content == whole.content
    assert len(chat.batch(["One.", "Two."])) == 2
    text = OpenAI(base_url=url + "/v1", api_key="none", model="x", max_tokens=8, temperature=0, max_retries=0)
    once = text.invoke("Once upon a time")
    assert once and "".join(text.stream("Once upon a time")) == once, once
    for ask in (lambda: chat.invoke("a b " * 20000), lambda: list(chat.stream("a b " * 20000))):
        try:
            ask()
            raise AssertionError("a chat that is too long was taken")
        except ContextOverflowError:
            pass


def litellm(url):
    import litellm as client

    for model, base in (("openai/x", url + "/v1"), ("huggingface/tgi", url + "/v1")):
        ask = dict(model=model, api_base=base, api_key="none", messages=MESSAGES, max_tokens=16, temperature=0)
        whole = client.completion(**ask)
        assert whole.usage.completion_tokens == 16 and whole.choices[0].finish_reason == "length", whole
        streamed = "".join(c.choices[0].delta.content or "" for c in client.completion(stream=True, **ask))
        assert streamed == whole.choices[0].message.content, (model, streamed, whole)
        assert asyncio.run(client.acompletion(**ask)).choices[0].message.content == streamed
    text = client.text_completion(model="text-completion-openai/x", api_base=url + "/v1", api_key="none", prompt="Once upon a time", max_tokens=8, temperature=0)
    assert text.choices[0].text, text
    long = [{"role": "user", "content": "a b " * 20000}]
    for kind in ("openai/x", "hosted_vllm/x"):
        for fields in ({"max_tokens": 10**6}, {"messages": long}, {"max_tokens": 10**6, "stream": True}):
            try:
                client.completion(**{"model": kind, "api_base": url + "/v1", "api_key": "none", "messages": MESSAGES, **fields})
                raise AssertionError(f"{fields} were taken")
            except client.exceptions.ContextWindowExceededError as error:
                assert "This model's maximum context length is" in str(error), error
    try:
        client.text_completion(model="text-completion-openai/x", api_base=url + "/v1", api_key="none", prompt="Once", max_tokens=10**6)
        raise AssertionError("a million tokens were promised")
    except client.exceptions.ContextWindowExceededError:
        pass


def llamaindex(url):
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    chat = OpenAILike(api_base=url + "/v1", api_key="none", model="x", is_chat_model=True, max_tokens=16, temperature=0, max_retries=0)
    messages = [ChatMessage(role="system", content="You tell stories."), ChatMessage(role="user", content="Tell me a story.")]
    whole = chat.chat(messages)
    assert whole.message.content and whole.raw.usage.completion_tokens == 16, whole
    assert "".join(r.delta for r in chat.stream_chat(messages)) == whole.message.content
    assert asyncio.run(chat.achat(messages)).message.content == whole.message.content
    text = OpenAILike(api_base=url + "/v1", api_key="none", model="x", is_chat_model=False, max_tokens=8, temperature=0, max_retries=0)
    once = text.complete("Once upon a time").text
    assert once and "".join(r.delta for r in text.stream_complete("Once upon a time")) == once, once


def sensible(url):
    """Two turns with a model that knows something."""
    import openai

    client = openai.OpenAI(base_url=url + "/v1", max_retries=0)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    first = client.chat.completions.create(model="x", messages=messages, max_tokens=40, temperature=0).choices[0]
    assert "Paris" in first.message.content and first.finish_reason == "stop", first
    messages += [{"role": "assistant", "content": first.message.content}, {"role": "user", "content": "And of Italy?"}]
    second = client.chat.completions.create(model="x", messages=messages, max_tokens=60, temperature=0).choices[0]
    assert "Rome" in second.message.content, second
    print(f"user: {messages[0]['content']}\nassistant: {first.message.content}\nuser: {messages[2]['content']}\nassistant: {second.message.content}")


def run_openai(url):
    openai_sync(url)
    openai_errors(url)
    openai_leaves(url)
    openai_retries(url)
    asyncio.run(openai_async(url))


if __name__ == "__main__":
    name, url = sys.argv[1], sys.argv[2].rstrip("/")
    {"openai": run_openai, "hub": hub, "langchain": langchain, "litellm": litellm, "llamaindex": llamaindex, "sensible": sensible}[name](url)
