// What both TypeScript clients do with greeter.

export async function use(client, transport, version) {
  await client.connect(transport);
  const { tools } = await client.listTools();
  const greeted = await client.callTool({ name: 'personalized_greeting', arguments: { name: 'Ada' } });
  const refused = await client.callTool({ name: 'personalized_greeting', arguments: { name: '' } });
  const unknown = await client.callTool({ name: 'no_such_tool', arguments: {} }).then(
    () => 'no error',
    (error) => error.code,
  );
  console.log(JSON.stringify({
    version: version(),
    server: client.getServerVersion().name,
    tools: tools.map((tool) => tool.name),
    greeted: greeted.content[0].text,
    refused: [refused.isError, refused.content[0].text],
    unknown,
  }));
  await client.close();
}
