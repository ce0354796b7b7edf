// Node's clients of OpenAI's interface, unchanged, against a running Lockstep: whole answers, streams, leaving, errors, retries.
//
// usage: node openai_clients.mjs openai|ai URL, in a folder with the packages, or with NODE_PATH naming them
//
// Exits with a stack when something is not as it should be. The server must take two requests at once and no more.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

// Modules do not look at NODE_PATH; resolving from its folder does.
const from = createRequire(join(process.env.NODE_PATH ?? join(process.cwd(), 'node_modules'), 'none.js'))
const load = name => import(pathToFileURL(from.resolve(name)))

const messages = [{ role: 'system', content: 'You tell stories.' }, { role: 'user', content: 'Tell me a story.' }]

// waits until no request holds anything: whoever left is forgotten.
async function waitIdle(url) {
  for (let i = 0; i < 200; i++) {
    if ((await (await fetch(url + '/token_load')).json()).dynamic_max_load === 0) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  assert.fail('the server still works for a client that has left')
}

async function openai(url) {
  const { default: OpenAI } = await load('openai')
  const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 })
  const model = (await client.models.list()).data[0].id
  assert.equal((await client.models.retrieve(model)).id, model)
  const ask = { model, messages, max_tokens: 24, seed: 5, logprobs: true, top_logprobs: 2 }
  const whole = await client.chat.completions.create(ask)
  const content = whole.choices[0].message.content
  assert.equal(whole.usage.completion_tokens, 24)
  assert.equal(whole.choices[0].logprobs.content.length, 24)
  let streamed = '', usage
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
    streamed += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.equal(streamed, content)
  assert.equal(usage.total_tokens, whole.usage.total_tokens)
  assert.equal(await client.chat.completions.stream(ask).finalContent(), content)

  const text = await client.completions.create({ model, prompt: ['Once upon a time', 'The dog'], max_tokens: 6, temperature: 0, n: 1, echo: true })
  assert.ok(text.choices[0].text.startsWith('Once upon a time') && text.choices[1].text.startsWith('The dog'))

  for (const stream of [false, true]) {
    await assert.rejects(client.chat.completions.create({ model, messages, stream, temperature: 9 }),
      error => error instanceof OpenAI.BadRequestError && error.param === 'temperature' && error.code === 'invalid_value')
  }
  await assert.rejects(client.models.retrieve('none'), OpenAI.NotFoundError)

  const endless = { model, messages, stream: true, max_tokens: 1900, ignore_eos: true }
  for await (const chunk of await client.chat.completions.create(endless)) {
    assert.ok(chunk)
    break // leaves
  }
  await waitIdle(url)
  const controller = new AbortController()
  const aborted = await client.chat.completions.create(endless, { signal: controller.signal })
  for await (const chunk of aborted) {
    assert.ok(chunk)
    controller.abort()
  }
  await waitIdle(url)

  const busy = await Promise.all([1, 2].map(() => client.chat.completions.create(endless)))
  await Promise.all(busy.map(stream => stream[Symbol.asyncIterator]().next()))
  await assert.rejects(client.chat.completions.create({ model, messages, max_tokens: 4 }), OpenAI.RateLimitError)
  setTimeout(() => busy.forEach(stream => stream.controller.abort()), 500)
  const patient = await client.chat.completions.create({ model, messages, max_tokens: 4 }, { maxRetries: 10 })
  assert.equal(patient.usage.completion_tokens, 4)
  await waitIdle(url)
}

async function ai(url) {
  const { generateText, streamText } = await load('ai')
  const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible')
  const provider = createOpenAICompatible({ name: 'lockstep', baseURL: url + '/v1', includeUsage: true })
  const ask = { model: provider('x'), system: 'You tell stories.', prompt: 'Tell me a story.', maxOutputTokens: 16, temperature: 0, maxRetries: 0 }
  const whole = await generateText(ask)
  assert.equal(whole.usage.outputTokens, 16)
  assert.equal(whole.finishReason, 'length')
  const stream = streamText(ask)
  let streamed = ''
  for await (const part of stream.textStream) streamed += part
  assert.equal(streamed, whole.text)
  assert.equal((await stream.usage).outputTokens, 16)
  const completed = await generateText({ model: provider.completionModel('x'), prompt: 'Once upon a time', maxOutputTokens: 8, temperature: 0, maxRetries: 0 })
  assert.ok(completed.text.length > 0)
  await assert.rejects(generateText({ ...ask, temperature: 9 }), error => error.statusCode === 400 && /temperature/.test(error.message))
  const controller = new AbortController()
  const left = streamText({ ...ask, maxOutputTokens: 1500, providerOptions: { lockstep: { ignore_eos: true } }, abortSignal: controller.signal, onError() {} })
  for await (const part of left.textStream) {
    assert.ok(part)
    controller.abort()
  }
  await waitIdle(url)
}

const [name, url] = process.argv.slice(2)
await { openai, ai }[name](url.replace(/\/$/, ''))
