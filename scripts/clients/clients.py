"""Real clients of the replaced servers against a running Lockstep: each streams, reads details, hits an error and leaves.

usage: clients.py tgi URL | score URL CHAT EXPECTED

Exits with a traceback when something is not as it should be.
"""
import sys

import requests


def text_generation_client(url):
    from text_generation import Client
    from text_generation.errors import ValidationError

    client = Client(url, timeout=60)
    answer = client.generate("Once upon a time", max_new_tokens=8, decoder_input_details=True)
    assert answer.details.generated_tokens == 8 and answer.details.finish_reason == "length", answer
    assert len(answer.details.prefill) > 1 and answer.details.prefill[1].logprob < 0, answer
    assert "".join(t.text for t in answer.details.tokens) == answer.generated_text, answer
    events = list(client.generate_stream("Once upon a time", max_new_tokens=8))
    assert [e.token.id for e in events] == [t.id for t in answer.details.tokens], events
    assert events[-1].generated_text == answer.generated_text and events[-1].details.generated_tokens == 8
    sampled = [client.generate("Once upon a time", max_new_tokens=8, do_sample=True, seed=7).generated_text for _ in range(2)]
    assert sampled[0] == sampled[1], sampled
    stopped = client.generate("Once upon a time", max_new_tokens=50, stop_sequences=["girl"])
    assert stopped.generated_text.endswith("girl") and stopped.details.finish_reason == "stop_sequence", stopped
    best = client.generate("Once upon a time", max_new_tokens=4, do_sample=True, best_of=2)
    assert len(best.details.best_of_sequences) == 1, best
    try:
        client.generate("Once", max_new_tokens=10**6)
        raise AssertionError("a million tokens were promised")
    except ValidationError as error:
        assert "max_new_tokens" in str(error), error
    stream = client.generate_stream("Once upon a time", max_new_tokens=500)
    next(stream)
    stream.close()  # leaves


def inference_client(url):
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, ValidationError as HubError

    client = InferenceClient(url, timeout=60)
    text = client.text_generation("Once upon a time", max_new_tokens=8)
    details = client.text_generation("Once upon a time", max_new_tokens=8, details=True, decoder_input_details=True)
    assert details.generated_text == text and len(details.details.tokens) == 8 and details.details.prefill, details
    assert "".join(client.text_generation("Once upon a time", max_new_tokens=8, stream=True)) == text
    for event in client.text_generation("Once upon a time", max_new_tokens=500, stream=True, details=True):
        assert event.token.text is not None
        break  # leaves
    try:
        client.text_generation("Once", max_new_tokens=10**6)
        raise AssertionError("a million tokens were promised")
    except (HubError, HfHubHTTPError, InferenceTimeoutError, Exception) as error:
        assert "max_new_tokens" in str(error), error


def lightllm_requests(url):
    body = {"inputs": "What is AI?", "parameters": {"max_new_tokens": 17, "frequency_penalty": 1}, "multimodal_params": {}}
    answer = requests.post(url + "/generate", json=body, timeout=60).json()
    assert list(answer) == ["generated_text", "count_output_tokens", "finish_reason", "prompt_tokens"], answer
    assert len(answer["generated_text"]) == 1 and answer["count_output_tokens"] == 17, answer
    stream = requests.post(url + "/generate_stream", json=body, timeout=60, stream=True)
    lines = [line for line in stream.iter_lines() if line]
    assert len(lines) == 17 and all(line.startswith(b'data:{"token": {"id": ') for line in lines), lines
    assert requests.get(url + "/healthz", timeout=60).json() == {"message": "Ok"}
    assert set(requests.get(url + "/token_load", timeout=60).json()) == {"current_load", "logical_max_load", "dynamic_max_load"}
    bad = requests.post(url + "/lightllm/generate", json={"inputs": "a", "parameters": {"top_p": 2}}, timeout=60)
    assert bad.status_code == 400 and bad.json()["error"]["type"] == "BadRequestError", bad.text
    requests.post(url + "/generate_stream", json={**body, "parameters": {"max_new_tokens": 500, "frequency_penalty": 1}}, timeout=60, stream=True).close()


def score(url, chat, expected):
    data = {"chat": chat, "parameters": {"frequency_penalty": 1}}
    response = requests.post(url + "/get_score", headers={"Content-Type": "application/json"}, json=data, timeout=60)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["finish_reason"] == "stop" and abs(answer["score"] - expected) <= 0.002 * (1 + abs(expected)), answer


if __name__ == "__main__":
    if sys.argv[1] == "tgi":
        text_generation_client(sys.argv[2])
        inference_client(sys.argv[2])
        lightllm_requests(sys.argv[2])
    else:
        score(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    print("ok")
