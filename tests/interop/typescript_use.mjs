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
  const { prompts } = await client.listPrompts();
  const prompt = await client.getPrompt({ name: 'introduction', arguments: { name: 'Ada', tone: 'funny' } });
  const reference = { type: 'ref/prompt', name: 'introduction' };
  const { completion } = await client.complete({ ref: reference, argument: { name: 'tone', value: 'w' } });
  const { resources } = await client.listResources();
  const guide = await client.readResource({ uri: 'greeter://guide' });
  const missing = await client.readResource({ uri: 'greeter://other' }).then(
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
    prompts: prompts.map((prompt) => prompt.name),
    prompt: prompt.messages[0].content.text.includes('a funny introduction'),
    suggested: completion.values,
    resources: resources.map((resource) => resource.uri),
    guide: guide.contents[0].text.split('\n')[0],
    missing,
  }));
  await client.close();
}
