'use strict';

const announcement = document.getElementById('status');

if (navigator.clipboard) {
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.hidden = false;
    button.addEventListener('click', () => copy(button));
  }
}

// Custom attributes: a field with the name of a form property (`form.elements`, `form.id`) would shadow that property.
for (const form of document.querySelectorAll('form')) {
  const [button, output] = ['button', 'output'].map((name) => document.getElementById(`${form.id}-${name}`));
  const fields = [...document.querySelectorAll(`[data-form="${form.id}"]`)];
  let isCalling = false;
  button.disabled = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (isCalling) return;
    isCalling = true;
    output.textContent = '';
    button.textContent = 'Calling…';
    const { text, failed } = await call(button.dataset.tool, fields);
    output.className = failed ? 'failed' : '';
    output.textContent = text || 'The result is empty.';
    button.textContent = 'Call';
    isCalling = false;
  });
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not copied';
  }
  announcement.textContent = button.textContent;
  setTimeout(() => {
    button.textContent = 'Copy';
    announcement.textContent = '';
  }, 2000);
}

async function call(name, fields) {
  try {
    const response = await fetch(location.pathname, request(name, fields));
    const { error, result } = await response.json();
    if (!result) return { text: error?.message ?? `HTTP ${response.status}`, failed: true };
    const shown = result.content.map((block) => block.text ?? JSON.stringify(block, null, 2));
    return { text: shown.join('\n'), failed: result.isError };
  } catch (error) {
    return { text: String(error.message ?? error), failed: true };
  }
}

function request(name, fields) {
  const version = document.body.dataset.version;
  const filled = fields.filter((field) => field.value !== '');
  const read = (field) => (field.dataset.json ? JSON.parse(field.value) : field.value);
  const params = {
    name,
    arguments: Object.fromEntries(filled.map((field) => [field.dataset.name, read(field)])),
    _meta: {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientInfo': { name: 'page', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  };
  return {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      'MCP-Protocol-Version': version,
      'Mcp-Method': 'tools/call',
      'Mcp-Name': name,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }),
    credentials: 'omit',
  };
}
