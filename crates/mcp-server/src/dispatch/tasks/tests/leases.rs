//! Leases of runs: lost, ended, and kept while the store is away.

use super::*;
use crate::tasks::lease::{self, Lease};

/// A step that takes five minutes, and ends with a note.
async fn rests(context: InteractiveContext<Log>, _: NoArguments) -> Result<String, HandlerError> {
    let log = context.state().clone();
    let work = async move {
        sleep(Duration::from_secs(300)).await;
        log.note("step");
        Ok::<_, HandlerError>(())
    };
    context.once("rest", work).await?;
    Ok("done".to_owned())
}

impl World {
    fn with_rests(&self) -> BuiltServer {
        self.environment_of(self.builder().tool(Tool::new("rests", rests).task(Task::ttl(HOUR))))
    }

    async fn create_rests(&self) -> RowKey {
        let params = json!({ "name": "rests", "arguments": {} });
        self.request_to(&self.with_rests(), Some(ada()), "tools/call", params, true).await.unwrap();
        self.log.wakes()[0]
    }

    async fn run_rests(&self, key: RowKey) -> TaskEnd {
        self.with_rests().tasks().unwrap().run(key, self.invocation(None)).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_stops_before_its_lease_ends_when_it_cannot_renew_it() {
    for outcome in [|| Outcome::Failed, || Outcome::Hangs] {
        let world = World::new();
        let key = world.create_rests().await;
        let begin = Instant::now();
        let away = begin + Duration::from_secs(60);
        // From the first minute on, nothing is written.
        world.store.script(move |operation, _| match operation {
            Operation::Set if Instant::now() >= away => outcome(),
            _ => Outcome::Done,
        });

        assert_eq!(world.run_rests(key).await, TaskEnd::Lost);

        let stopped = begin.elapsed();
        assert!((77..=80).contains(&stopped.as_secs()), "20 s after the last renewal: {stopped:?}");
        assert!(world.log.effects().is_empty());
        world.store.end_script();
        advance(Duration::from_secs(11)).await;
        assert_eq!(world.run_rests(key).await, TaskEnd::Ended);
        assert_eq!(world.log.effects(), ["step"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_when_the_store_is_away_for_a_short_time() {
    let world = World::new();
    let key = world.create_rests().await;
    let begin = Instant::now();
    world.store.script(move |operation, _| match operation {
        Operation::Set if (60..70).contains(&begin.elapsed().as_secs()) => Outcome::Failed,
        // These renewals are executed, but not confirmed.
        Operation::Set if (100..110).contains(&begin.elapsed().as_secs()) => Outcome::Unconfirmed,
        _ => Outcome::Done,
    });

    assert_eq!(world.run_rests(key).await, TaskEnd::Ended);
    assert_eq!(world.log.effects(), ["step"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_its_own_lease_only() {
    let world = World::new();
    let (id, key) = world.create("asks").await;
    let built = world.environment();
    let (store, owner, mut writes) = (built.store().unwrap().clone(), Some(Arc::new(ada())), 0);
    let (stored, task) = (store.clone(), id.clone());
    world.store.script(move |operation, row| {
        writes += usize::from(operation == Operation::Set && row == key);
        // The last write of the run: after its begin and one step.
        if operation != Operation::Set || row != key || writes != 3 {
            return Outcome::Done;
        }
        let (store, owner, task) = (stored.clone(), owner.clone(), task.clone());
        Outcome::After(Box::pin(async move {
            advance(Duration::from_secs(31)).await;
            assert!(Lease::take(&store, owner, task).await.unwrap().is_some(), "the lease of the run has ended");
        }))
    });

    assert_eq!(world.run(key).await, TaskEnd::Parked);
    world.store.end_script();

    assert!(lease::is_leased(&store, Some(&ada()), &id).await.unwrap(), "by the other run");
    advance(Duration::from_secs(31)).await;
    let own = Lease::take(&store, Some(Arc::new(ada())), id.clone()).await.unwrap().unwrap();
    own.end().await.unwrap();
    assert!(!lease::is_leased(&store, Some(&ada()), &id).await.unwrap());
}
