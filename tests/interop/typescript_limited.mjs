// An official TypeScript client of a server with rate limits: calls two tools until each call is limited, and prints what it saw as JSON.

const [url, generation] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = generation === 'first'
  ? {
      ...(await import('@modelcontextprotocol/sdk/client/index.js')),
      ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
    }
  : await import('@modelcontextprotocol/client');
const options = generation === 'first' ? {} : { versionNegotiation: { mode: generation } };

const client = new Client({ name: 'interop', version: '1.0.0' }, options);

const tried = async (send) => {
  for (let sent = 0; sent < 40; sent += 1) {
    try {
      const result = await send();
      if (result.isError) return { text: result.content[0].text };
    } catch (error) {
      if (/rate limit|429/.test(error.message)) return { code: error.code, message: error.message };
    }
  }
  return {};
};

const connecting = await client.connect(new StreamableHTTPClientTransport(new URL(url))).then(
  () => ({}),
  (error) => ({ code: error.code, message: error.message }),
);
const called = await tried(() => client.callTool({ name: 'render', arguments: {} }));
const requested = await tried(() => client.callTool({ name: 'status', arguments: {} }));
console.log(JSON.stringify({ connecting, called, requested }));
await client.close();
