// A user opens a server's page.
//
//     node page.mjs URL FOLDER
//
// Prints what was seen, as JSON; pictures are left in FOLDER.

import { join } from 'node:path';
import axe from 'axe-core';
import { errorsOf, launch } from './chromium.mjs';

const [url, folder] = process.argv.slice(2);
const LOOKS = {
  light: { colorScheme: 'light', viewport: { width: 1024, height: 900 } },
  dark: { colorScheme: 'dark', reducedMotion: 'reduce', viewport: { width: 1024, height: 900 } },
  phone: { colorScheme: 'light', viewport: { width: 320, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};

const browser = await launch();
try {
  const seen = { looks: {}, errors: [], elsewhere: [] };
  for (const [name, look] of Object.entries(LOOKS)) {
    seen.looks[name] = await visit(look, (page) => check(page, name));
  }
  seen.keyboard = await visit(LOOKS.light, useKeyboard);
  seen.refused = await visit(LOOKS.light, callInVain);
  seen.copied = await visit({ ...LOOKS.light, permissions: ['clipboard-read', 'clipboard-write'] }, copyUrl);
  seen.withoutScript = await visit({ javaScriptEnabled: false }, (page) => page.innerText('main'));
  console.log(JSON.stringify(seen));

  async function visit(look, use) {
    const context = await browser.newContext(look);
    const page = await context.newPage();
    const errors = errorsOf(page);
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) seen.elsewhere.push(request.url());
    });
    await page.goto(url);
    const result = await use(page);
    seen.errors.push(...errors);
    await context.close();
    return result;
  }
} finally {
  await browser.close();
}

// Everything unfolded, and an answer shown: there is more that can be wrong then.
async function check(page, name) {
  await page.screenshot({ path: join(folder, `${name}-first.png`) });
  await page.evaluate(() => document.querySelectorAll('details').forEach((own) => own.setAttribute('open', '')));
  await page.getByLabel('name').fill('Ada');
  await page.getByRole('button', { name: 'Call personalized_greeting' }).click();
  await page.locator('output:not(:empty)').waitFor();
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  await page.evaluate(axe.source);
  const { violations, incomplete, passes } = await page.evaluate('axe.run()');
  return {
    violations: violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html)]),
    undecided: incomplete.map(({ id }) => id),
    passed: passes.length,
    width: await page.evaluate(() => document.documentElement.scrollWidth),
    background: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
  };
}

// From the top of the page, by keys alone.
async function useKeyboard(page) {
  const stops = [];
  for (let stop = 0; stop < 40; stop += 1) {
    await page.keyboard.press('Tab');
    const [tag, text, outline] = await page.evaluate(() => {
      const own = document.activeElement;
      const name = own.getAttribute('aria-label') ?? own.dataset.name ?? own.textContent;
      return [own.tagName, name, getComputedStyle(own).outlineStyle];
    });
    stops.push([tag, text.trim(), outline]);
    if (tag === 'INPUT') break;
  }
  await page.keyboard.type('Ada');
  await page.keyboard.press('Enter');
  await page.locator('output:not(:empty)').waitFor();
  const focused = await page.evaluate(() => document.activeElement.tagName);
  return { stops, answer: await page.getByRole('status').first().innerText(), focused };
}

async function callInVain(page) {
  await page.getByLabel('name').fill('x'.repeat(101));
  await page.getByRole('button', { name: 'Call personalized_greeting' }).click();
  await page.locator('output.failed:not(:empty)').waitFor();
  return page.innerText('output');
}

async function copyUrl(page) {
  await page.getByRole('button', { name: 'Copy the URL' }).click();
  await page.getByText('Copied').first().waitFor();
  return page.evaluate(() => navigator.clipboard.readText());
}
