// Chromium as somebody who signs in: `mcpl` starts it with the address of the sign-in page.
//
//     node browser.mjs NAME FOLDER URL
//
// Fills in the form with NAME and sends it. What is shown then is left in FOLDER, as picture.png and as page.json. The
// browser is CHROMIUM, or else the one of an npm package, which exists for x86-64 Linux alone.

import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [name, folder, url] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? (await packaged()),
  // Without a sandbox, which root cannot have; and it is to ask nobody but the issuer.
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-proxy-server'],
});
try {
  const page = await browser.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  await page.goto(url);
  const asked = { title: await page.title(), text: await page.innerText('body') };
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button').click();
  await page.waitForURL('http://127.0.0.1:*/callback?*');
  const shown = { title: await page.title(), text: await page.innerText('body') };
  await page.screenshot({ path: join(folder, 'picture.png') });
  await writeFile(join(folder, 'page.json'), JSON.stringify({ asked, shown, errors }));
} catch (error) {
  // Nobody waits for a browser that does not come back.
  const { searchParams } = new URL(url);
  const answer = new URLSearchParams({ error: 'browser', error_description: error, state: searchParams.get('state') });
  await fetch(`${searchParams.get('redirect_uri')}?${answer}`);
} finally {
  await browser.close();
}

// The package's own browser, with the libraries and fonts that it brings along.
async function packaged() {
  const folder = tmpdir();
  await mkdir(folder, { recursive: true });
  process.env.AWS_EXECUTION_ENV ??= 'AWS_Lambda_nodejs22.x';
  const { default: own } = await import('@sparticuz/chromium');
  const path = await own.executablePath();
  const fonts = join(folder, 'fonts.conf');
  await writeFile(fonts, `<fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/fonts-cache</cachedir></fontconfig>`);
  process.env.FONTCONFIG_FILE = fonts;
  return path;
}
