// Chromium as a person who signs in at an authorization server: consent, then the pages of the provider behind it.
//
//     node sign_in.mjs ACCOUNT FOLDER URL [deny]
//
// Opens the authorization URL, and goes on until the browser is sent to its `redirect_uri`. FOLDER gets sign-in.json: the pages that
// were shown, the callback, and the errors of the pages; and a picture of each page. With `deny` the first page is answered with no. A page
// of an error is left by its link to the application.
// SIGN_IN_COOKIES names a file in which cookies are kept between runs, and SIGN_IN_LOCALE the language of the browser.
//
// Fields and buttons are found by their role and name, so that any provider's page will do.

import { existsSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errorsOf, launch } from './chromium.mjs';

const YES = /^(allow|approve|accept|agree|authori[sz]e|continue|next|yes|sign in|log in|permitir|autorizar|aceptar|aceitar|continuar|siguiente|seguinte|avançar|sí|sim|entrar|iniciar sesión|iniciar sessão)/i;
const NO = /^(deny|cancel|refuse|reject|do not allow|don't allow|negar|denegar|rechazar|rejeitar|recusar|cancelar|no permitir|não permitir)/i;
// The link of a page without a button: a sign-in that has ended before the provider.
const RETURN = /^(return to the application|voltar à aplicação|volver a la aplicación)$/i;
const MAX_PAGES = 12;
const PATIENCE = 20_000;

// Opens an authorization URL and signs an account in. Returns the pages that were shown, none if the browser is still signed in, and the
// callback URL.
export async function signIn(page, account, url, { password = 'secret', deny = false, shown = async () => {} } = {}) {
  const redirectUri = new URL(url).searchParams.get('redirect_uri');
  let callback;
  const isDone = new Promise((resolve) => {
    page.on('request', (request) => {
      if (request.isNavigationRequest() && request.frame() === page.mainFrame() && request.url().startsWith(redirectUri)) {
        callback = request.url();
        resolve();
      }
    });
  });
  // The page of a hosted client: no request leaves this machine.
  if (redirectUri.startsWith('https:')) await page.route(`${redirectUri}**`, (route) => route.fulfill({ body: 'signed in' }));
  // The callback may be served by no process: then its page never loads.
  const unlessDone = (error) => callback ?? Promise.reject(error);
  await page.goto(url).catch(unlessDone);
  const pages = [];
  while (!callback) {
    if (pages.length === MAX_PAGES) throw new Error(`after ${MAX_PAGES} pages the sign-in has not ended, at ${page.url()}`);
    pages.push(await look(page));
    await shown(pages.length);
    const control = await find(page, deny && pages.length === 1 ? NO : YES);
    if (!(deny && pages.length === 1)) await fill(page, account, password);
    const next = page.waitForEvent('domcontentloaded', { timeout: PATIENCE }).catch(unlessDone);
    await control.click();
    await Promise.race([isDone, next]);
  }
  return { pages, callback };
}

async function look(page) {
  await page.waitForLoadState('domcontentloaded');
  const buttons = page.getByRole('button');
  return {
    url: page.url(), title: await page.title(), text: await page.innerText('body'), language: await page.getAttribute('html', 'lang'),
    buttons: await Promise.all((await buttons.all()).map((button) => button.innerText())),
  };
}

async function find(page, name) {
  const control = page.getByRole('button', { name }).or(page.getByRole('link', { name: RETURN })).first();
  await control.waitFor({ timeout: PATIENCE }).catch(async () => {
    throw new Error(`no button is named as ${name} at ${page.url()}: ${(await page.innerText('body')).slice(0, 500)}`);
  });
  return control;
}

// A password field has no role.
async function fill(page, account, password) {
  for (const field of await page.getByRole('textbox').all()) {
    if ((await field.getAttribute('type')) !== 'password') await field.fill(account);
  }
  for (const field of await page.locator('input[type=password]').all()) await field.fill(password);
}

// A cookie with the prefix `__Host-` must have no domain: it is that of a URL.
function ofHost({ domain, path, ...cookie }) {
  return cookie.name.startsWith('__Host-') ? { ...cookie, url: `https://${domain}/` } : { ...cookie, domain, path };
}

// The file is there once it is complete.
async function report(folder, result) {
  const file = join(folder, 'sign-in.json');
  await writeFile(`${file}.part`, JSON.stringify(result));
  await rename(`${file}.part`, file);
}

async function main(account, folder, url, answer) {
  const { SIGN_IN_COOKIES: cookies, SIGN_IN_LOCALE: locale = 'en' } = process.env;
  const browser = await launch();
  try {
    const context = await browser.newContext({ locale });
    if (cookies && existsSync(cookies)) await context.addCookies(JSON.parse(await readFile(cookies)).cookies.map(ofHost));
    const page = await context.newPage();
    const errors = errorsOf(page);
    const shown = (number) => page.screenshot({ path: join(folder, `page-${number}.png`), fullPage: true });
    const result = await signIn(page, account, url, { deny: answer === 'deny', shown });
    // The client answers its callback before the browser ends.
    await page.waitForLoadState('load').catch(() => {});
    if (cookies) await context.storageState({ path: cookies });
    await report(folder, { ...result, errors });
  } catch (error) {
    await report(folder, { failure: String(error) });
    throw error;
  } finally {
    await browser.close();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(...process.argv.slice(2));
