// Chromium for tests: CHROMIUM, or else the one of an npm package, which exists for x86-64 Linux alone.

import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? (await packaged()),
    // Without a sandbox, which root cannot have; and it must contact only the server under test.
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--no-proxy-server'],
  });
}

// What goes wrong in a page, from now on.
export function errorsOf(page) {
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  return errors;
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
