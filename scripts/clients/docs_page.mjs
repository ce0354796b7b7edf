// A browser opens the page that shows all routes, and asks the server from it.
//
// usage: node docs_page.mjs URL CHROMIUM [FOLDER for screenshots]; NODE_PATH names the folder with playwright-core
//
// Exits with a stack when something is not as it should be.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const from = createRequire(join(process.env.NODE_PATH ?? join(process.cwd(), 'node_modules'), 'none.js'))
const { chromium } = (await import(pathToFileURL(from.resolve('playwright-core')))).default

const [url, executablePath, folder] = process.argv.slice(2)
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const browser = await chromium.launch({ executablePath, args })
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } })
  const wrong = []
  page.on('console', message => message.type() === 'error' && wrong.push(message.text()))
  page.on('pageerror', error => wrong.push(String(error)))
  page.on('requestfailed', request => wrong.push(`failed: ${request.url()}`))
  page.on('request', request => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) wrong.push(`elsewhere: ${request.url()}`)
  })
  const paths = async () => (await page.locator('.opblock-summary-path').evaluateAll(list => list.map(e => e.getAttribute('data-path'))))

  await page.goto(url + '/docs')
  await page.locator('.opblock').first().waitFor()
  const all = await paths()
  for (const path of ['/v1/chat/completions', '/v1/completions', '/tgi/generate_stream', '/mindie/generate', '/lightllm/get_score', '/token_load']) {
    assert.ok(all.includes(path), `${path} is not among ${all}`)
  }
  if (folder) await page.screenshot({ path: join(folder, 'page.png') })

  for (const path of ['/v1/chat/completions', '/tgi/generate', '/lightllm/generate']) {
    const operation = page.locator('.opblock-post', { has: page.locator(`[data-path="${path}"]`) })
    await operation.locator('.opblock-summary-control').click()
    await operation.getByRole('button', { name: 'Execute' }).click()
    const status = operation.locator('.live-responses-table .response-col_status')
    await status.nth(1).waitFor()
    assert.match(await status.nth(1).innerText(), /^200/, path)
    const answer = await operation.locator('.live-responses-table .response-col_description').nth(1).innerText()
    assert.match(answer, path.startsWith('/v1') ? /"usage"/ : /generated_text/, answer)
    if (folder) await operation.screenshot({ path: join(folder, path.replaceAll('/', '_') + '.png') })
    await operation.locator('.opblock-summary-control').click()
  }

  await page.goto(url + '/lightllm/docs/')
  await page.locator('.opblock').first().waitFor()
  const own = await paths()
  assert.ok(own.includes('/get_score') && !own.some(path => path.startsWith('/v1/') || path.startsWith('/tgi')), String(own))
  if (folder) await page.screenshot({ path: join(folder, 'lightllm.png') })
  assert.deepEqual(wrong, [])
} finally {
  await browser.close()
}
