// Node's clients that want structured output, tools or another form of chats, unchanged, against a running Lockstep that serves a model
// which can call (Qwen2.5-Coder-0.5B-Instruct).
//
// usage: node agents.mjs openai|anthropic|ai URL, in a folder with the packages, or with NODE_PATH naming them
//
// Exits with a stack when something is not as it should be.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

// Modules do not look at NODE_PATH; resolving from its folder does.
const from = createRequire(join(process.env.NODE_PATH ?? join(process.cwd(), 'node_modules'), 'none.js'))
const load = name => import(pathToFileURL(from.resolve(name)))

const ask = 'Which is the largest city of France? Answer with its name, its country and how many inhabitants it has.'
const weather = 'What is the weather in Paris, in celsius?'
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' }, unit: { enum: ['celsius', 'fahrenheit'] } },
  required: ['city', 'unit'],
}
const wanted = { city: 'Paris', unit: 'celsius' }

const check = city => assert.ok(city.name.includes('Paris') && city.country.includes('France') && Number.isInteger(city.inhabitants), city)

async function openai(url) {
  const { default: OpenAI } = await load('openai')
  const { zodResponseFormat, zodTextFormat } = await load('openai/helpers/zod')
  const { z } = await load('zod')
  const City = z.object({ name: z.string(), country: z.string(), inhabitants: z.int() })
  const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'none', maxRetries: 0 })
  const messages = [{ role: 'user', content: ask }]
  const parsed = await client.chat.completions.parse({ model: 'x', messages, temperature: 0, response_format: zodResponseFormat(City, 'city') })
  check(parsed.choices[0].message.parsed)
  const response = await client.responses.parse({ model: 'x', input: ask, temperature: 0, text: { format: zodTextFormat(City, 'city') } })
  assert.deepEqual(response.output_parsed, parsed.choices[0].message.parsed)

  let asked
  const runner = client.chat.completions.runTools({
    model: 'x', temperature: 0, messages: [{ role: 'user', content: weather }],
    tool_choice: { type: 'function', function: { name: 'get_weather' } }, // ends behind the call
    tools: [{ type: 'function', function: { name: 'get_weather', description: 'Tells the weather of a city.', parameters,
      parse: JSON.parse, function: input => { asked = input; return '17 degrees' } } }],
  }, { maxChatCompletions: 1 })
  await runner.done().catch(() => {})
  assert.deepEqual(asked, wanted)

  const tools = [{ type: 'function', function: { name: 'get_weather', parameters } }]
  const stream = client.chat.completions.stream({ model: 'x', temperature: 0, messages: [{ role: 'user', content: weather }], tools,
    tool_choice: 'required' })
  let pieces = ''
  stream.on('tool_calls.function.arguments.delta', event => { pieces += event.arguments_delta })
  const final = await stream.finalChatCompletion()
  assert.equal(final.choices[0].finish_reason, 'tool_calls')
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, pieces)
  assert.deepEqual(JSON.parse(pieces), wanted)
}

async function anthropic(url) {
  const { default: Anthropic } = await load('@anthropic-ai/sdk')
  const client = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 })
  const base = { model: 'x', max_tokens: 200, temperature: 0 }
  const question = { ...base, messages: [{ role: 'user', content: 'What is the capital of France?' }] }
  const whole = await client.messages.create(question)
  assert.ok(whole.content[0].text.includes('Paris') && whole.stop_reason === 'end_turn')
  const streamed = await client.messages.stream(question).finalMessage()
  assert.equal(streamed.content[0].text, whole.content[0].text)
  assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens)
  const tools = [{ name: 'get_weather', description: 'Tells the weather of a city.', input_schema: parameters }]
  const messages = [{ role: 'user', content: weather }]
  const called = await client.messages.stream({ ...base, messages, tools, tool_choice: { type: 'any' } }).finalMessage()
  assert.equal(called.stop_reason, 'tool_use')
  assert.deepEqual(called.content[0].input, wanted)
  messages.push({ role: 'assistant', content: called.content },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: called.content[0].id, content: '17 degrees, rain' }] })
  const last = await client.messages.create({ ...base, messages, tools, tool_choice: { type: 'none' } })
  assert.ok(last.content[0].text.includes('17'))
  await assert.rejects(client.messages.create({ ...base, max_tokens: 0, messages }), error => error instanceof Anthropic.BadRequestError)
}

async function ai(url) {
  const { generateObject, generateText, streamObject, tool } = await load('ai')
  const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible')
  const { z } = await load('zod')
  const model = createOpenAICompatible({ name: 'lockstep', baseURL: url + '/v1', supportsStructuredOutputs: true })('x')
  const schema = z.object({ name: z.string(), country: z.string(), inhabitants: z.int() })
  const { object } = await generateObject({ model, schema, prompt: ask, temperature: 0, maxRetries: 0 })
  check(object)
  const stream = streamObject({ model, schema, prompt: ask, temperature: 0, maxRetries: 0 })
  let grown
  for await (const part of stream.partialObjectStream) grown = part
  assert.deepEqual(grown, object)
  let asked
  const { toolResults } = await generateText({
    model, prompt: weather, temperature: 0, maxRetries: 0, toolChoice: 'required',
    tools: { get_weather: tool({ description: 'Tells the weather of a city.',
      inputSchema: z.object({ city: z.string(), unit: z.enum(['celsius', 'fahrenheit']) }),
      execute: async input => { asked = input; return '17 degrees' } }) },
  })
  assert.deepEqual(asked, wanted)
  assert.equal(toolResults[0].output, '17 degrees')
}

const [name, url] = process.argv.slice(2)
await { openai, anthropic, ai }[name](url.replace(/\/$/, ''))
