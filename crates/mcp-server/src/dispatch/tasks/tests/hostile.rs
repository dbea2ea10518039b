//! Every kind of attack on every entrance: nothing is revealed, and no row changes.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// One character differs.
    Forged,
    /// Of a server with another state key.
    OtherKey,
    /// Sent again after the task has ended.
    Replayed,
    /// Sent after the task has expired.
    Late,
    OtherCaller,
    /// Of a server with another name, the same state key and the same tables.
    OtherServer,
    /// What another call has returned.
    OtherCall,
    /// An answer to a question of an earlier round, or the wake-up of that answer.
    OtherRound,
    Oversized,
    /// A value that has another purpose.
    Swapped,
}

const ATTACKS: [Attack; 10] = [
    Attack::Forged,
    Attack::OtherKey,
    Attack::Replayed,
    Attack::Late,
    Attack::OtherCaller,
    Attack::OtherServer,
    Attack::OtherCall,
    Attack::OtherRound,
    Attack::Oversized,
    Attack::Swapped,
];

const METHODS: [&str; 3] = ["tasks/get", "tasks/update", "tasks/cancel"];

/// A task with two open questions, and an attack on it.
struct Scene {
    world: World,
    id: String,
    key: RowKey,
    /// The environment that is attacked.
    built: BuiltServer,
}

impl Scene {
    async fn new(attack: Attack) -> Self {
        let world = World::new();
        let tool = if attack == Attack::OtherRound { "asks_twice" } else { "asks" };
        let (id, key) = world.create(tool).await;
        assert_eq!(world.run(key).await, TaskEnd::Parked);
        let built = match attack {
            Attack::OtherKey => world.environment_with(world.builder(), &KEY.replace("AAAA", "BBBB")),
            Attack::OtherServer => world.environment_of(
                Server::new("other", "1", world.log.clone()).tool(Tool::new("asks", asks).task(Task::ttl(HOUR))),
            ),
            _ => world.environment(),
        };
        match attack {
            Attack::Replayed => {
                world.update(&id, json!({ "first": accept("Ada"), "second": accept("Eve") })).await;
                assert_eq!(world.run(key).await, TaskEnd::Ended);
            }
            Attack::OtherRound => {
                world.update(&id, json!({ "first": accept("Ada") })).await;
                assert_eq!(world.run(key).await, TaskEnd::Parked);
            }
            Attack::Late => advance(HOUR).await,
            _ => {}
        }
        world.log.wakes();
        Self { world, id, key, built }
    }

    /// Runs an attack. Returns its result, and the operations of the store.
    async fn observe<T>(&self, attack: impl Future<Output = T>) -> (T, Vec<Operation>) {
        let operations: Arc<Mutex<Vec<Operation>>> = Arc::default();
        let noted = Arc::clone(&operations);
        self.world.store.script(move |operation, _| {
            noted.lock().unwrap().push(operation);
            Outcome::Done
        });
        let result = attack.await;
        self.world.store.end_script();
        assert!(self.world.log.wakes().is_empty(), "no task was woken");
        let operations = operations.lock().unwrap().clone();
        assert!(operations.iter().all(|operation| *operation == Operation::Get), "nothing was written: {operations:?}");
        (result, operations)
    }

    /// Another task of another caller: its id and key.
    async fn other(&self) -> (String, RowKey) {
        let eve = Principal { subject: "eve".to_owned(), ..ada() };
        let params = json!({ "name": "asks", "arguments": {} });
        let created = self.world.request(Some(eve), "tools/call", params, true).await.unwrap();
        (created["taskId"].as_str().unwrap().to_owned(), self.world.log.wakes()[0])
    }
}

fn changed(text: &str) -> String {
    let (rest, last) = text.split_at(text.len() - 1);
    format!("{rest}{}", if last == "A" { "Q" } else { "A" })
}

#[tokio::test(start_paused = true)]
async fn no_attack_on_a_request_is_answered_or_changes_a_task() {
    for attack in ATTACKS {
        for method in METHODS {
            let scene = Scene::new(attack).await;
            let (caller, id) = match attack {
                Attack::Forged => (ada(), changed(&scene.id)),
                Attack::OtherCaller => (Principal { subject: "eve".to_owned(), ..ada() }, scene.id.clone()),
                Attack::OtherCall => (ada(), scene.other().await.0),
                Attack::Oversized => (ada(), scene.id.repeat(10_000)),
                Attack::Swapped => (ada(), scene.key.encode()),
                // Of its own client: `tasks/get` and `tasks/cancel` belong to no round.
                Attack::OtherRound if method != "tasks/update" => continue,
                Attack::OtherKey | Attack::Replayed | Attack::Late | Attack::OtherServer | Attack::OtherRound => {
                    (ada(), scene.id.clone())
                }
            };
            let answers = match attack {
                Attack::OtherRound => json!({ "first": accept("Eve") }),
                _ => json!({ "first": accept("Eve"), "second": accept("Eve") }),
            };
            let params = json!({ "taskId": id, "inputResponses": answers });

            let request = scene.world.request_to(&scene.built, Some(caller), method, params, true);
            let (result, operations) = scene.observe(request).await;

            match (attack, result) {
                // Its own client may ask again: nothing changes.
                (Attack::Replayed | Attack::OtherRound, Ok(result)) => {
                    assert_eq!(result["resultType"], "complete", "{method}");
                }
                (_, Err(CallError::InvalidInput(text))) => assert!(text.contains("unknown task"), "{attack:?}: {text}"),
                (_, other) => panic!("{attack:?} {method}: {other:?}"),
            }
            match attack {
                // No id has this length.
                Attack::Oversized | Attack::Swapped => assert!(operations.is_empty(), "{attack:?} {method}"),
                Attack::Replayed => {}
                Attack::OtherRound => {
                    assert_eq!(scene.world.run(scene.key).await, TaskEnd::Idle);
                    scene.world.update(&scene.id, json!({ "second": accept("Lovelace") })).await;
                    assert_eq!(scene.world.run(scene.key).await, TaskEnd::Ended);
                    let state = scene.world.get(&scene.id).await;
                    assert_eq!(state["result"]["content"][0]["text"], "Ada Lovelace");
                }
                _ => assert_eq!(operations, [Operation::Get], "{attack:?} {method}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_attack_by_a_wake_up_runs_a_task() {
    for attack in ATTACKS {
        let scene = Scene::new(attack).await;
        let code = |built: &BuiltServer, key: RowKey| WakeUp::new(built.store().unwrap(), key).encode();
        let own = code(&scene.world.environment(), scene.key);
        let (other_id, other_key) = scene.other().await;
        let of_other = code(&scene.world.environment(), other_key);
        let (own_task, own_code) = own.split_once('.').unwrap();
        let (_, other_code) = of_other.split_once('.').unwrap();
        let texts = match attack {
            Attack::Forged => vec![changed(&own), format!("{}.{own_code}", changed(own_task))],
            Attack::Replayed | Attack::Late | Attack::OtherRound => vec![own.clone()],
            // Sent to a server that cannot have made it.
            Attack::OtherKey | Attack::OtherServer => vec![own.clone(), of_other.clone()],
            Attack::OtherCaller | Attack::OtherCall => vec![format!("{own_task}.{other_code}")],
            Attack::Oversized => vec![own.repeat(1000), "A".repeat(1_000_000)],
            Attack::Swapped => vec![
                scene.id.clone(),
                other_id,
                own_task.to_owned(),
                format!("{own_code}.{own_task}"),
                format!("{}.{own_code}", scene.id),
                format!("{own_task}.{own_task}"),
            ],
        };
        for text in texts {
            let effects = scene.world.log.effects();
            let runner = scene.built.tasks().unwrap();
            let wake_up = async {
                match runner.verify(&text) {
                    Some(task) => Some(runner.run(task.task(), scene.world.invocation(None)).await.unwrap()),
                    None => None,
                }
            };

            let (end, operations) = scene.observe(wake_up).await;

            match attack {
                // A platform may deliver a wake-up more than once.
                Attack::Replayed | Attack::Late | Attack::OtherRound => {
                    assert_eq!(end, Some(TaskEnd::Idle), "{attack:?}");
                }
                _ => assert_eq!((end, operations), (None, vec![]), "{attack:?}"),
            }
            assert_eq!(scene.world.log.effects(), effects);
        }
    }
}
