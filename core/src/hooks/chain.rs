//! The extensions of a hub, per hook in the order they are asked.

use std::fmt;
use std::sync::Arc;

use super::{Extension, HookSet};

/// Which extensions have which hook, computed once.
#[derive(Clone, Default)]
pub struct HookChain {
    present: HookSet,
    extensions: Arc<[(HookSet, Arc<dyn Extension>)]>,
}

impl HookChain {
    /// Orders the extensions by priority, higher first; the sort is stable as in Hocuspocus.
    pub fn new(extensions: Vec<Arc<dyn Extension>>) -> Self {
        let mut extensions: Vec<_> = extensions.into_iter().map(|e| (e.hooks(), e)).collect();
        extensions.sort_by_key(|(_, extension)| std::cmp::Reverse(extension.priority()));
        let present = extensions.iter().fold(HookSet::empty(), |all, (hooks, _)| all | *hooks);
        Self { present, extensions: extensions.into() }
    }

    /// Whether anybody has any of these hooks.
    pub fn wants(&self, hooks: HookSet) -> bool {
        self.present.intersects(hooks)
    }

    /// The extensions that have this hook, in order.
    pub fn with(&self, hook: HookSet) -> impl Iterator<Item = &Arc<dyn Extension>> {
        self.extensions.iter().filter(move |(hooks, _)| hooks.contains(hook)).map(|(_, extension)| extension)
    }
}

impl fmt::Debug for HookChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.extensions.iter().map(|(_, e)| e.name())).finish()
    }
}

/// Asks every extension that has the hook, in order, until one says no or skips the rest. Evaluates to
/// a `Result<(), Rejection>`. The event is made by the caller, who asks [`HookChain::wants`] before.
macro_rules! run_hooks {
    ($chain:expr, $hook:ident, $method:ident, $event:expr) => {{
        let mut result = Ok(());
        for extension in $chain.with($crate::hooks::HookSet::$hook) {
            match extension.$method($event).await {
                Ok($crate::hooks::Flow::Continue) => {}
                Ok($crate::hooks::Flow::Skip) => break,
                Err(rejection) => {
                    tracing::debug!(extension = extension.name(), hook = stringify!($method), error = %rejection, "hook rejected");
                    result = Err(rejection);
                    break;
                }
            }
        }
        result
    }};
}
pub(crate) use run_hooks;

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, i32, HookSet);

    impl Extension for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn hooks(&self) -> HookSet {
            self.2
        }
        fn priority(&self) -> i32 {
            self.1
        }
    }

    #[test]
    fn higher_priority_first_then_the_order_given() {
        let both = HookSet::ON_CHANGE | HookSet::ON_CONNECT;
        let chain = HookChain::new(vec![
            Arc::new(Named("a", 100, both)),
            Arc::new(Named("b", 1000, HookSet::ON_CHANGE)),
            Arc::new(Named("c", 100, HookSet::ON_CHANGE)),
        ]);
        let order = |hook| chain.with(hook).map(|e| e.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(order(HookSet::ON_CHANGE), ["b", "a", "c"]);
        assert_eq!(order(HookSet::ON_CONNECT), ["a"]);
        assert!(!chain.wants(HookSet::ON_STATELESS));
    }
}
