// Chromium as a user who signs in: `mcpl` starts it with the address of the sign-in page.
//
//     node browser.mjs NAME FOLDER URL
//
// Fills in the form with NAME and sends it. What is shown then is left in FOLDER, as picture.png and as page.json.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorsOf, launch } from './chromium.mjs';

const [name, folder, url] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  const errors = errorsOf(page);
  await page.goto(url);
  const asked = { title: await page.title(), text: await page.innerText('body') };
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button').click();
  await page.waitForURL('http://127.0.0.1:*/callback?*');
  const shown = { title: await page.title(), text: await page.innerText('body') };
  await page.screenshot({ path: join(folder, 'picture.png') });
  await writeFile(join(folder, 'page.json'), JSON.stringify({ asked, shown, errors }));
} catch (error) {
  // The test does not wait for a browser that does not come back.
  const { searchParams } = new URL(url);
  const answer = new URLSearchParams({ error: 'browser', error_description: error, state: searchParams.get('state') });
  await fetch(`${searchParams.get('redirect_uri')}?${answer}`);
} finally {
  await browser.close();
}
