// Both generations of the official TypeScript client, again and again: a list of tools, then a call. Prints each pair's failure as JSON.

const [url, mode, count, wantsNew] = process.argv.slice(2);
const isFirst = mode === 'first';
const { Client, StreamableHTTPClientTransport } = isFirst
  ? {
      ...(await import('@modelcontextprotocol/sdk/client/index.js')),
      ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
    }
  : await import('@modelcontextprotocol/client');
const versionNegotiation = { mode: mode === 'legacy' ? mode : { pin: mode } };

async function pair() {
  const client = new Client({ name: 'interop', version: '1.0.0' }, isFirst ? {} : { versionNegotiation });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  try {
    const { tools } = await client.listTools();
    const known = tools.find((tool) => tool.name === 'convert').inputSchema.properties;
    const more = wantsNew && known.digits ? { digits: 5 } : {};
    const result = await client.callTool({ name: 'convert', arguments: { meters: 2, ...more } });
    if (result.isError) {
      throw new Error(result.content[0].text);
    }
    return result.structuredContent.feet === 6.56168 ? null : JSON.stringify(result.structuredContent);
  } catch (error) {
    return String(error);
  } finally {
    await client.close();
  }
}

const failures = [];
for (let number = 0; number < Number(count); number += 1) {
  failures.push(await pair());
}
console.log(JSON.stringify(failures));
